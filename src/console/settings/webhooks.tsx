import type { FC } from 'hono/jsx'
import { iso } from '../../time.ts'
import type { Delivery } from '../../webhooks/delivery.ts'
import { WEBHOOK_EVENT_TYPES } from '../../webhooks/event.ts'
import type { Webhook } from '../../webhooks/store.ts'
import { usePage } from '../page.tsx'
import { Card, Dialog, DialogEnd, Field, Table, Time } from '../parts.tsx'

export const Webhooks: FC<{ webhooks: Webhook[] }> = ({ webhooks }) => {
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

export const Deliveries: FC<{ webhook: Webhook; deliveries: Delivery[] }> = ({ webhook, deliveries }) => {
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
