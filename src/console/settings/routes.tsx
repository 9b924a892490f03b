import { Hono } from 'hono'
import type { FC } from 'hono/jsx'
import { listEntries } from '../../audit/store.ts'
import { admits } from '../../auth/middleware.ts'
import { listKeys } from '../../auth/store.ts'
import { openDb } from '../../db/client.ts'
import { notFound } from '../../errors.ts'
import { page } from '../../openapi.ts'
import { webhookSender } from '../../webhooks/sender-stub.ts'
import { findWebhook, listWebhooks } from '../../webhooks/store.ts'
import { type ConsoleEnv, render, usePage } from '../page.tsx'
import { Audit, type AuditFilter } from './audit.tsx'
import { Keys } from './keys.tsx'
import { Deliveries, Webhooks } from './webhooks.tsx'

const PAGE_SIZE = 50
const DAY_MS = 24 * 3600_000
const dayOf = (text: string | undefined) => (/^\d{4}-\d\d-\d\d$/.test(text ?? '') ? text : undefined)
/** When a day begins in UTC, in ms; undefined where there is no such day. */
const startOf = (day: string | undefined) => {
  const at = Date.parse(`${day}T00:00:00Z`)
  return Number.isNaN(at) ? undefined : at
}

export const settingsPages = new Hono<ConsoleEnv>()
  .get('/settings', async (c) => {
    if (!admits('admin', c.var.principal.role)) return render(c, 'nav.settings', <NotAllowed />)
    const tenantId = c.var.principal.tenantId!
    const db = openDb(c.env.DB)
    const { action, target, from, to, cursor } = c.req.query()
    const filter: AuditFilter = {
      ...{ action: action || undefined, target: target || undefined },
      ...{ from: dayOf(from), to: dayOf(to) },
    }
    const lastDay = startOf(filter.to)
    const [keys, webhooks, entries] = await Promise.all([
      listKeys(db, { tenantId }, PAGE_SIZE),
      listWebhooks(db, tenantId, PAGE_SIZE),
      listEntries(
        db,
        tenantId,
        {
          ...filter,
          keyId: undefined,
          from: startOf(filter.from),
          to: lastDay === undefined ? undefined : lastDay + DAY_MS,
        },
        PAGE_SIZE,
        cursor,
      ),
    ])
    const audit = page(entries, PAGE_SIZE, ({ id }) => id)
    return render(
      c,
      'nav.settings',
      <>
        <Keys keys={keys.slice(0, PAGE_SIZE)} />
        <Webhooks webhooks={webhooks.slice(0, PAGE_SIZE)} />
        <Audit entries={audit.items} cursor={audit.nextCursor} filter={filter} />
      </>,
    )
  })
  .get('/settings/webhooks/:id', async (c) => {
    if (!admits('admin', c.var.principal.role)) return render(c, 'nav.settings', <NotAllowed />)
    const ref = { tenantId: c.var.principal.tenantId!, webhookId: c.req.param('id') }
    const webhook = await findWebhook(openDb(c.env.DB), ref)
    if (!webhook) throw notFound('webhook')
    const deliveries = await webhookSender(c.env, ref.webhookId).deliveries(
      Number.MAX_SAFE_INTEGER,
      PAGE_SIZE,
    )
    return render(
      c,
      'settings.deliveries',
      <Deliveries webhook={webhook} deliveries={deliveries.slice(0, PAGE_SIZE)} />,
    )
  })

const NotAllowed: FC = () => {
  const { t } = usePage()
  return (
    <>
      <h1>{t('nav.settings')}</h1>
      <p>{t('settings.notAllowed')}</p>
    </>
  )
}
