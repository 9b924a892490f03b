import { Hono, type MiddlewareHandler } from 'hono'
import { listEntries } from '../../audit/store.ts'
import { admits } from '../../auth/middleware.ts'
import { declareRoles } from '../../auth/route-roles.ts'
import { listKeys } from '../../auth/store.ts'
import { notFound } from '../../common/errors.ts'
import { openDb } from '../../db/client.ts'
import { page } from '../../http/openapi.ts'
import { webhookSender } from '../../webhooks/sender-stub.ts'
import { findWebhook, listWebhooks } from '../../webhooks/store.ts'
import { MAX_WEBHOOKS } from '../../webhooks/webhook.ts'
import { type ConsoleEnv, render } from '../layout/page.tsx'
import { Audit, type AuditFilter } from './audit.tsx'
import { Deliveries } from './deliveries.tsx'
import { Keys } from './keys.tsx'
import { NotAllowed } from './settings.tsx'
import { Webhooks } from './webhooks.tsx'

const PAGE_SIZE = 50
const DAY_MS = 24 * 3600_000
const dayOf = (text: string | undefined) => (/^\d{4}-\d\d-\d\d$/.test(text ?? '') ? text : undefined)
/** The beginning of a day in UTC, in ms; undefined if there is no such day. */
const startOf = (day: string | undefined) => {
  const at = Date.parse(`${day}T00:00:00Z`)
  return Number.isNaN(at) ? undefined : at
}

/** As `requireRole('admin')`, but the refusal is a page. */
const onlyAdmin = declareRoles<MiddlewareHandler<ConsoleEnv>>(
  async (c, next) => {
    if (!admits('admin', c.var.principal.role)) return render(c, 'nav.settings', <NotAllowed />, 403)
    await next()
  },
  ['admin'],
)

export const settingsPages = new Hono<ConsoleEnv>()
  .get('/settings', onlyAdmin, async (c) => {
    const tenantId = c.var.principal.tenantId!
    const rows = await listKeys(openDb(c.env.DB), { tenantId }, PAGE_SIZE, c.req.query('cursor'))
    const { items, nextCursor } = page(rows, PAGE_SIZE, ({ id }) => id)
    return render(c, 'settings.keys', <Keys keys={items} cursor={nextCursor} />)
  })
  .get('/settings/webhooks', onlyAdmin, async (c) => {
    const webhooks = await listWebhooks(openDb(c.env.DB), c.var.principal.tenantId!, MAX_WEBHOOKS)
    return render(c, 'settings.webhooks', <Webhooks webhooks={webhooks} />)
  })
  .get('/settings/webhooks/:id', onlyAdmin, async (c) => {
    const ref = { tenantId: c.var.principal.tenantId!, webhookId: c.req.param('id') }
    const webhook = await findWebhook(openDb(c.env.DB), ref)
    if (!webhook) throw notFound('webhook')
    const before = Number(c.req.query('cursor')) || Number.MAX_SAFE_INTEGER
    const sender = webhookSender(c.env, ref.webhookId)
    const [status, rows] = await Promise.all([sender.status(), sender.deliveries(before, PAGE_SIZE)])
    const { items, nextCursor } = page(rows, PAGE_SIZE, ({ number }) => String(number))
    const list = { webhook, status, deliveries: items, cursor: nextCursor }
    return render(c, 'settings.deliveries', <Deliveries {...list} />)
  })
  .get('/settings/audit', onlyAdmin, async (c) => {
    const { action, target, keyId, from, to, cursor } = c.req.query()
    const filter: AuditFilter = {
      action: action || undefined,
      target: target || undefined,
      keyId: keyId || undefined,
      from: dayOf(from),
      to: dayOf(to),
    }
    const lastDay = startOf(filter.to)
    const times = {
      from: startOf(filter.from),
      to: lastDay === undefined ? undefined : lastDay + DAY_MS,
    }
    const rows = await listEntries(
      openDb(c.env.DB),
      c.var.principal.tenantId!,
      { ...filter, ...times },
      PAGE_SIZE,
      cursor,
    )
    const { items, nextCursor } = page(rows, PAGE_SIZE, ({ id }) => id)
    return render(c, 'settings.audit', <Audit entries={items} cursor={nextCursor} filter={filter} />)
  })
