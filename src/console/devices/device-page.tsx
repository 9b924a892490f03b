import type { FC } from 'hono/jsx'
import { iso } from '../../common/time.ts'
import type { Rejection } from '../../db/schema.ts'
import type { Device, DeviceModule } from '../../devices/device.ts'
import type { Product } from '../../products/product.ts'
import { type Reason, reason, toReason } from '../../reasons/reason.ts'
import type { DeviceView } from '../../tasks/object/task-view.ts'
import { useMay, usePage } from '../layout/page.tsx'
import { Card, Dialog, DialogEnd, Field, StateBadge, Table, Time, Why } from '../layout/parts.tsx'
import { TaskHistory } from '../tasks/task-history.tsx'
import { Online } from './online.tsx'

interface UpgradeRow {
  taskId: string
  taskName: string
  module: string
  fromVersion: string | null
  targetVersion: string
  status: 'success' | 'failure' | 'cancelled' | null
  description: string | null
  because: Reason | null
  finishedAt: number | null
}

interface Props {
  device: Device
  modules: DeviceModule[]
  upgrades: UpgradeRow[]
  /** The events of its latest upgrade, newest first. */
  messages: DeviceView['events']
  rejections: { total: number; items: Rejection[] }
  product: Product | undefined
}

export const DevicePage: FC<Props> = ({ device, modules, upgrades, messages, rejections, product }) => {
  const { t } = usePage()
  const mayWrite = useMay('operator')
  const path = `/api/v1/devices/${device.id}`
  return (
    <>
      <div class="top">
        <h1>
          {device.name ?? device.number} <Online of={device.online} />{' '}
          {!device.enabled && <span class="badge bad">{t('device.disabled')}</span>}
        </h1>
        {mayWrite && (
          <div class="row">
            <button type="button" data-opens="#edit-device">
              {t('page.edit')}
            </button>
            <button
              type="button"
              data-api={`PATCH ${path}`}
              data-body={JSON.stringify({ enabled: !device.enabled })}
              data-confirm={t(device.enabled ? 'device.disableAsk' : 'device.enableAsk', {
                number: device.number,
              })}
            >
              {t(device.enabled ? 'device.disable' : 'device.enable')}
            </button>
          </div>
        )}
      </div>
      <div class="columns">
        <Card>
          <dl>
            <dt>{t('device.number')}</dt>
            <dd>{device.number}</dd>
            <dt>{t('product.one')}</dt>
            <dd>
              <a href={`/products/${device.productId}`}>{product?.name ?? device.productId}</a>
            </dd>
            <dt>{t('device.tags')}</dt>
            <dd>{device.tags.join(', ') || '–'}</dd>
            <dt>{t('device.lastSeen')}</dt>
            <dd>
              <Time at={iso(device.lastSeenAt)} />
            </dd>
            {mayWrite && (
              <>
                <dt>{t('device.token')}</dt>
                <dd class="row" id="token">
                  <button
                    type="button"
                    class="plain"
                    hx-post={`/devices/${device.id}/token`}
                    hx-target="#token"
                  >
                    {t('device.showToken')}
                  </button>
                </dd>
              </>
            )}
          </dl>
          {mayWrite && device.passwordHash === null && (
            <p>
              <button
                type="button"
                class="danger"
                data-api={`POST ${path}/rotate-token`}
                data-confirm={t('device.rotateAsk')}
                data-shows="accessToken"
                data-shows-in="#rotated"
              >
                {t('device.rotate')}
              </button>
              <span id="rotated" hidden>
                {' '}
                <code data-secret />
              </span>
            </p>
          )}
        </Card>
        <Card title={t('device.modules')}>
          <Table
            heads={[t('device.module'), t('device.version'), t('page.updated')]}
            rows={modules.map(({ module, version, reportedAt, rolledBack }) => (
              <tr>
                <td>{module}</td>
                <td>
                  {version}{' '}
                  {rolledBack !== null && (
                    <span class="badge bad">
                      <Why reason={reason('rolled_back', { version })} />
                    </span>
                  )}
                </td>
                <td>
                  <Time at={iso(reportedAt)} />
                </td>
              </tr>
            ))}
          />
        </Card>
      </div>
      <Card title={t('device.upgrades')}>
        <Table
          heads={[
            t('task.one'),
            t('device.from'),
            t('task.to'),
            t('page.status'),
            t('task.detail'),
            t('page.updated'),
          ]}
          rows={upgrades.map(
            ({ taskId, taskName, fromVersion, targetVersion, status, description, because, finishedAt }) => (
              <tr>
                <td>
                  <a href={`/tasks/${taskId}/devices/${device.id}`}>{taskName}</a>
                </td>
                <td>{fromVersion ?? '–'}</td>
                <td>{targetVersion}</td>
                <td>
                  {status ? <StateBadge of={status} /> : <span class="badge busy">{t('device.active')}</span>}
                </td>
                <td>
                  <Why reason={because} said={description} />
                </td>
                <td>
                  <Time at={iso(finishedAt)} />
                </td>
              </tr>
            ),
          )}
        />
      </Card>
      <Card title={t('device.messages')}>
        <TaskHistory events={messages} />
      </Card>
      <Card title={t('device.rejections', { count: rejections.total })}>
        <Table
          heads={[t('page.time'), t('device.topic'), t('device.payload'), t('device.reason')]}
          rows={rejections.items.map(({ at, topic, payload, code, reason: text }) => (
            <tr>
              <td class="narrow">
                <Time at={iso(at)} />
              </td>
              <td>
                <code>{topic}</code>
              </td>
              <td>
                <pre tabindex={0}>{payload}</pre>
              </td>
              <td>
                <Why reason={code === undefined ? null : toReason(code)} said={text} />
              </td>
            </tr>
          ))}
        />
      </Card>
      {mayWrite && (
        <Dialog id="edit-device" title={t('page.edit')}>
          <form data-api={`PATCH ${path}`}>
            <Field label={t('page.name')} hint={t('page.optional')}>
              <input name="name" maxlength={128} value={device.name ?? ''} data-empty="null" />
            </Field>
            <Field label={t('device.tags')} hint={t('device.tagsHint')}>
              <input name="tags" value={device.tags.join(' ')} data-type="lines" data-empty="list" />
            </Field>
            <DialogEnd action={t('page.save')} />
          </form>
        </Dialog>
      )}
    </>
  )
}
