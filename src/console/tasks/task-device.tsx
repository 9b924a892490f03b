import type { FC } from 'hono/jsx'
import type { DeviceView, TaskView } from '../../tasks/object/task-view.ts'
import { useMay, usePage } from '../layout/page.tsx'
import { Card, StateBadge, Why } from '../layout/parts.tsx'
import { DeviceAction } from './task-devices.tsx'
import { TaskHistory } from './task-history.tsx'

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
      {device.waiting !== null && (
        <p>
          {t('task.waitsFor')} <Why reason={device.waiting} />
        </p>
      )}
      <Card title={t('task.history')}>
        <TaskHistory events={device.events} />
      </Card>
    </>
  )
}
