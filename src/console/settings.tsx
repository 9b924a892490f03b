import { Hono } from 'hono'
import type { FC } from 'hono/jsx'
import type { AuditEntry } from '../audit/entry.ts'
import { listEntries } from '../audit/store.ts'
import { admits } from '../auth/middleware.ts'
import { type ApiKey, listKeys } from '../auth/store.ts'
import { openDb } from '../db/client.ts'
import { notFound } from '../errors.ts'
import { page } from '../openapi.ts'
import { iso } from '../time.ts'
import type { Delivery } from '../webhooks/delivery.ts'
import { WEBHOOK_EVENT_TYPES } from '../webhooks/event.ts'
import { webhookSender } from '../webhooks/sender-stub.ts'
import { findWebhook, listWebhooks, type Webhook } from '../webhooks/store.ts'
import { type ConsoleEnv, render, usePage } from './page.tsx'
import { Card, Dialog, DialogEnd, Field, NextPage, Table, Time } from './parts.tsx'

const PAGE_SIZE = 50
const ROLES = ['viewer', 'operator', 'admin', 'bridge'] as const

interface AuditFilter {
  action: string | undefined
  target: string | undefined
  /** Days (`2026-01-31`), of UTC; both are included. */
  from: string | undefined
  to: string | undefined
}

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

const Keys: FC<{ keys: ApiKey[] }> = ({ keys }) => {
  const { t } = usePage()
  return (
    <>
      <div class="top">
        <h1>{t('nav.settings')}</h1>
        <button type="button" class="main" data-opens="#new-key">
          {t('settings.newKey')}
        </button>
      </div>
      <Card title={t('settings.keys')}>
        <Table
          heads={[
            t('page.name'),
            t('settings.role'),
            t('page.created'),
            t('settings.lastUsed'),
            t('page.actions'),
          ]}
          rows={keys.map(({ id, name, role, bridge, createdAt, lastUsedAt, revokedAt }) => (
            <tr>
              <td>{name}</td>
              <td>
                {role} {bridge}
              </td>
              <td class="narrow">
                <Time at={iso(createdAt)} />
              </td>
              <td class="narrow">
                <Time at={iso(lastUsedAt)} />
              </td>
              <td>
                {revokedAt === null ? (
                  <button
                    type="button"
                    class="plain"
                    data-api={`DELETE /api/v1/keys/${id}`}
                    data-confirm={t('settings.revokeAsk', { name })}
                  >
                    {t('settings.revoke')}
                  </button>
                ) : (
                  <span class="badge bad">{t('settings.revoked')}</span>
                )}
              </td>
            </tr>
          ))}
        />
      </Card>
      <Dialog id="new-key" title={t('settings.newKey')}>
        <form data-api="POST /api/v1/keys" data-shows="key" data-shows-in="#made-key">
          <Field label={t('page.name')}>
            <input name="name" required maxlength={128} />
          </Field>
          <Field label={t('settings.role')}>
            <select name="role" data-switches="role">
              {ROLES.map((role) => (
                <option>{role}</option>
              ))}
            </select>
          </Field>
          <span data-of="role" data-when="bridge" hidden>
            <Field label={t('product.bridge')}>
              <input name="bridge" maxlength={64} value="default" />
            </Field>
          </span>
          <DialogEnd action={t('page.save')} />
        </form>
      </Dialog>
      <section id="made-key" class="card" hidden>
        <p>{t('settings.keyOnce')}</p>
        <code data-secret />
      </section>
    </>
  )
}

const Webhooks: FC<{ webhooks: Webhook[] }> = ({ webhooks }) => {
  const { t } = usePage()
  return (
    <Card title={t('settings.webhooks')}>
      <Table
        heads={['URL', t('settings.events'), t('page.created'), t('page.actions')]}
        rows={webhooks.map(({ id, url, events, createdAt }) => (
          <tr>
            <td>
              <a href={`/settings/webhooks/${id}`}>{new URL(url).origin}</a>
            </td>
            <td>{events.join(', ')}</td>
            <td class="narrow">
              <Time at={iso(createdAt)} />
            </td>
            <td>
              <button
                type="button"
                class="plain"
                data-api={`DELETE /api/v1/webhooks/${id}`}
                data-confirm={t('settings.deleteWebhook')}
              >
                {t('page.delete')}
              </button>
            </td>
          </tr>
        ))}
      />
      <button type="button" data-opens="#new-webhook">
        {t('settings.newWebhook')}
      </button>
      <Dialog id="new-webhook" title={t('settings.newWebhook')}>
        <form data-api="POST /api/v1/webhooks" data-shows="secret" data-shows-in="#made-secret">
          <Field label="URL">
            <input type="url" name="url" required maxlength={2048} />
          </Field>
          <fieldset>
            <legend>{t('settings.events')}</legend>
            {WEBHOOK_EVENT_TYPES.map((type) => (
              <label class="check">
                <input type="checkbox" name="events" value={type} data-list />
                <span>{type}</span>
              </label>
            ))}
          </fieldset>
          <DialogEnd action={t('page.save')} />
        </form>
      </Dialog>
      <p id="made-secret" hidden>
        {t('settings.secretOnce')} <code data-secret />
      </p>
    </Card>
  )
}

const Deliveries: FC<{ webhook: Webhook; deliveries: Delivery[] }> = ({ webhook, deliveries }) => {
  const { t } = usePage()
  return (
    <>
      <h1>{t('settings.deliveries')}</h1>
      <p class="quiet">{new URL(webhook.url).origin}</p>
      <Card>
        <Table
          heads={[
            t('page.time'),
            t('task.event'),
            t('page.status'),
            t('settings.attempts'),
            t('task.detail'),
            t('page.actions'),
          ]}
          rows={deliveries.map(({ id, type, at, state, attempts, error }) => (
            <tr>
              <td class="narrow">
                <Time at={iso(at)} />
              </td>
              <td>{type}</td>
              <td>{state}</td>
              <td>{attempts}</td>
              <td>{error}</td>
              <td>
                <button
                  type="button"
                  class="plain"
                  data-api={`POST /api/v1/webhooks/${webhook.id}/deliveries/${id}/replay`}
                >
                  {t('settings.replay')}
                </button>
              </td>
            </tr>
          ))}
        />
      </Card>
    </>
  )
}

const Audit: FC<{ entries: AuditEntry[]; cursor: string | null; filter: AuditFilter }> = ({
  entries,
  cursor,
  filter,
}) => {
  const { t } = usePage()
  return (
    <Card title={t('settings.audit')}>
      <form class="row" method="get" action="/settings">
        <Field label={t('settings.action')}>
          <input name="action" value={filter.action} maxlength={64} />
        </Field>
        <Field label={t('settings.target')}>
          <input name="target" value={filter.target} maxlength={64} />
        </Field>
        <Field label={t('settings.fromDay')}>
          <input type="date" name="from" value={filter.from} />
        </Field>
        <Field label={t('settings.toDay')}>
          <input type="date" name="to" value={filter.to} />
        </Field>
        <button type="submit">{t('page.filter')}</button>
      </form>
      <Table
        heads={[
          t('page.time'),
          t('settings.who'),
          t('settings.action'),
          t('settings.target'),
          t('settings.address'),
          t('task.detail'),
        ]}
        rows={entries.map(({ at, keyName, role, action, target, address, detail }) => (
          <tr>
            <td class="narrow">
              <Time at={iso(at)} />
            </td>
            <td>
              {keyName} <span class="quiet">{role}</span>
            </td>
            <td>{action}</td>
            <td>
              <code>{target}</code>
            </td>
            <td>{address}</td>
            <td>
              <code>{detail && JSON.stringify(detail)}</code>
            </td>
          </tr>
        ))}
      />
      <NextPage path="/settings" query={{ ...filter }} cursor={cursor} />
    </Card>
  )
}
