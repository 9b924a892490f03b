import type { FC } from 'hono/jsx'
import type { DeviceView, TaskView } from '../../tasks/task-view.ts'
import { useMay, usePage } from '../page.tsx'
import { Card, Said, StateBadge, Table, Time } from '../parts.tsx'
import { DeviceAction } from './task-devices.tsx'

/** One device in a task: what it waits for and what happened. */
export const TaskDevicePage: FC<{ task: TaskView; device: DeviceView }> = ({ task, device }) => {
  const { t } = usePage()
  const mayWrite = useMay('operator')
  return (
    <>
      <p>
        <a href={`/tasks/${task.id}`}>{task.name}</a> /{' '}
        <a href={`/devices/${device.deviceId}`}>{device.number}</a>
      </p>
      <div class="top">
        <h1>
          {device.name ?? device.number} <StateBadge of={device.status} />
        </h1>
        {mayWrite && <DeviceAction taskId={task.id} device={device} then="" />}
      </div>
      {device.waitingFor !== null && (
        <p>
          {t('task.waitsFor')} <Said text={device.waitingFor} />
        </p>
      )}
      <Card title={t('task.history')}>
        <Table
          heads={[t('page.time'), t('task.event'), t('task.detail'), t('page.status')]}
          rows={device.events.map(({ at, kind, detail, status }) => (
            <tr>
              <td class="narrow">
                <Time at={at} />
              </td>
              <td>
                <Said text={kind} />
              </td>
              <td>
                <Said text={detail} />
              </td>
              <td>{status && <StateBadge of={status} />}</td>
            </tr>
          ))}
        />
      </Card>
    </>
  )
}
