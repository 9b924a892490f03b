import type { FC } from 'hono/jsx'
import { iso } from '../../common/time.ts'
import { WEBHOOK_EVENT_TYPES } from '../../webhooks/event.ts'
import type { Webhook } from '../../webhooks/webhook.ts'
import { usePage } from '../layout/page.tsx'
import { Card, Dialog, DialogEnd, Field, Table, Time } from '../layout/parts.tsx'
import { Settings } from './settings.tsx'

export const Webhooks: FC<{ webhooks: Webhook[] }> = ({ webhooks }) => {
  const { t } = usePage()
  const add = (
    <button type="button" class="main" data-opens="#new-webhook">
      {t('settings.newWebhook')}
    </button>
  )
  return (
    <Settings action={add}>
      <section id="made-secret" class="card" hidden tabindex={-1}>
        <p>{t('settings.secretOnce')}</p>
        <code data-secret />
      </section>
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
      </Card>
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
    </Settings>
  )
}
