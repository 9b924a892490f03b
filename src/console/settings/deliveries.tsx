import type { FC } from 'hono/jsx'
import { iso } from '../../common/time.ts'
import type { Delivery, SenderStatus } from '../../webhooks/delivery.ts'
import type { Webhook } from '../../webhooks/webhook.ts'
import { usePage } from '../layout/page.tsx'
import { Card, NextPage, Table, Time } from '../layout/parts.tsx'
import { Settings } from './settings.tsx'

interface Props {
  webhook: Webhook
  status: SenderStatus
  deliveries: Delivery[]
  cursor: string | null
}

export const Deliveries: FC<Props> = ({ webhook, status, deliveries, cursor }) => {
  const { t } = usePage()
  return (
    <Settings>
      <Card title={t('settings.deliveries')}>
        <p class="quiet">
          {new URL(webhook.url).origin} · {t('settings.pending', { count: status.pending })}
        </p>
        {status.dropped > 0 && <p class="fault">{t('settings.dropped', { count: status.dropped })}</p>}
        {status.disabled?.url === webhook.url && (
          <p class="fault">
            {t('settings.webhookGone')} <Time at={iso(status.disabled.at)} />{' '}
            <button type="button" data-api={`PATCH /api/v1/webhooks/${webhook.id}`} data-body="{}">
              {t('settings.enableWebhook')}
            </button>
          </p>
        )}
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
              <td>{t(`delivery.${state}`)}</td>
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
        <NextPage path={`/settings/webhooks/${webhook.id}`} query={{}} cursor={cursor} />
      </Card>
    </Settings>
  )
}
