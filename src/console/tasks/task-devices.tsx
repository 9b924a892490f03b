import type { FC } from 'hono/jsx'
import type { DeviceModule } from '../../devices/device.ts'
import type { DevicePage, DeviceSummary } from '../../tasks/object/task-view.ts'
import type { UpgradeStatus } from '../../tasks/rules/upgrade.ts'
import { useMay, usePage } from '../layout/page.tsx'
import { ShareBar, StateBadge, Table, Time, Why } from '../layout/parts.tsx'

export interface DeviceFilter {
  status: UpgradeStatus | undefined
  search: string | undefined
  cursor: string | undefined
}

export interface Devices extends DevicePage {
  /** Device id → the versions that it runs now. */
  modules: Map<string, DeviceModule[]>
}

interface Props {
  taskId: string
  devices: Devices
  filter: DeviceFilter
}

export const DeviceTable: FC<Props> = ({ taskId, devices, filter }) => {
  const { t } = usePage()
  const mayWrite = useMay('operator')
  const versionOf = ({ deviceId, module }: DeviceSummary) =>
    devices.modules.get(deviceId)?.find((each) => each.module === module)?.version
  return (
    <>
      <Table
        caption={t('task.devices')}
        heads={[
          ...(mayWrite ? [<AllDevices />] : []),
          t('device.number'),
          t('page.name'),
          t('task.current'),
          t('task.to'),
          t('task.progress'),
          t('page.updated'),
          t('page.status'),
          t('task.detail'),
          ...(mayWrite ? [t('page.actions')] : []),
        ]}
        rows={devices.items.map((device) => (
          <tr id={device.deviceId}>
            {mayWrite && (
              <td>
                <input
                  type="checkbox"
                  value={device.deviceId}
                  data-device={device.status}
                  aria-label={t('task.choose', { number: device.number })}
                />
              </td>
            )}
            <td>
              <a href={`/tasks/${taskId}/devices/${device.deviceId}`}>{device.number}</a>
            </td>
            <td>{device.name}</td>
            <td class="narrow">{versionOf(device) ?? '–'}</td>
            <td class="narrow">{device.targetVersion}</td>
            <td>
              <ShareBar share={Math.max(0, device.step ?? 0) / 100} label={`${device.step ?? 0} %`} />
            </td>
            <td class="narrow">
              <Time at={device.updatedAt} />
            </td>
            <td>
              <StateBadge of={device.status} />
            </td>
            <td>
              <Why reason={device.because} said={device.description} />
            </td>
            {mayWrite && (
              <td>
                <DeviceAction taskId={taskId} device={device} then="#devices" />
              </td>
            )}
          </tr>
        ))}
      />
      <p class="row">
        {filter.cursor !== undefined && <Turn to="" text={t('page.first')} />}
        {devices.nextCursor !== null && <Turn to={devices.nextCursor} text={t('page.more')} />}
      </p>
    </>
  )
}

/** Turns the table's page. The cursor is a field of the filter's form, so that a refresh stays on that page. */
const Turn: FC<{ to: string; text: string }> = ({ to, text }) => (
  <button type="button" data-picks="#device-filter [name=cursor]" data-value={to}>
    {text}
  </button>
)

const AllDevices: FC = () => {
  const { t } = usePage()
  return <input type="checkbox" data-all-devices aria-label={t('task.chooseAll')} />
}

/** The buttons for the chosen devices; hidden while none is chosen. */
export const ChosenDevices: FC<{ taskId: string }> = ({ taskId }) => {
  const { t } = usePage()
  const path = `/api/v1/tasks/${taskId}/devices/{id}`
  return (
    <div class="row" data-chosen={t('task.chosen')} hidden>
      <span data-count role="status" />
      <button
        type="button"
        data-each={`POST ${path}/retry`}
        data-states="failure cancelled"
        data-confirm={t('task.retryChosen')}
        data-done={t('task.retryDone')}
        data-then="#devices"
      >
        {t('task.retry')}
      </button>
      <button
        type="button"
        class="danger"
        data-each={`POST ${path}/cancel`}
        data-states="pending pushed upgrading"
        data-confirm={t('task.cancelChosen')}
        data-done={t('task.cancelDone')}
        data-then="#devices"
      >
        {t('task.cancel')}
      </button>
    </div>
  )
}

export const DeviceAction: FC<{
  taskId: string
  device: { deviceId: string; number: string; status: UpgradeStatus }
  then: string
}> = ({ taskId, device, then }) => {
  const { t } = usePage()
  const path = `/api/v1/tasks/${taskId}/devices/${device.deviceId}`
  const { number } = device
  if (device.status === 'success') return null
  return device.status === 'failure' || device.status === 'cancelled' ? (
    <button
      type="button"
      class="plain"
      data-api={`POST ${path}/retry`}
      data-confirm={t('task.retryOne', { number })}
      data-then={then}
    >
      {t('task.retry')}
    </button>
  ) : (
    <button
      type="button"
      class="plain"
      data-api={`POST ${path}/cancel`}
      data-confirm={t('task.cancelOne', { number })}
      data-then={then}
    >
      {t('task.cancel')}
    </button>
  )
}
