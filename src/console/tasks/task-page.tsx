import type { FC } from 'hono/jsx'
import type { TaskView } from '../../tasks/object/task-view.ts'
import type { TaskCounts } from '../../tasks/rules/task.ts'
import { UPGRADE_STATES } from '../../tasks/rules/upgrade.ts'
import { useMay, usePage } from '../layout/page.tsx'
import { Card, Field } from '../layout/parts.tsx'
import { ChosenDevices, type DeviceFilter, type Devices, DeviceTable } from './task-devices.tsx'
import { TaskState } from './task-state.tsx'

export const TaskPage: FC<{ task: TaskView; devices: Devices; filter: DeviceFilter }> = ({
  task,
  devices,
  filter,
}) => {
  const { t } = usePage()
  const mayWrite = useMay('operator')
  return (
    <div data-live={`/tasks/${task.id}/live`}>
      <p>
        {task.packageIds.map((id) => (
          <a href={`/packages/${id}`}>{t('nav.firmware')}</a>
        ))}{' '}
        / {task.name}
      </p>
      <div
        id="state"
        hx-get={`/tasks/${task.id}/state`}
        hx-trigger="refresh"
        hx-swap="innerMorph"
        data-follows
      >
        <TaskState task={task} />
      </div>
      <Cards task={task} filter={filter} />
      <div hx-get={`/tasks/${task.id}/charts`} hx-trigger="load, refresh, every 60s" class="columns">
        …
      </div>
      <Card title={t('task.devices')}>
        <form
          class="row"
          hx-get={`/tasks/${task.id}/devices`}
          hx-target="#devices"
          hx-trigger="submit, input delay:300ms"
          hx-swap="innerMorph"
          hx-sync="#devices:replace"
          id="device-filter"
        >
          <input type="hidden" name="cursor" value={filter.cursor ?? ''} />
          <Field label={t('page.search')}>
            <input name="search" value={filter.search} maxlength={64} placeholder={t('device.searchHint')} />
          </Field>
          <Field label={t('page.status')}>
            <select name="status">
              <option value="">{t('page.all')}</option>
              {UPGRADE_STATES.map((state) => (
                <option value={state} selected={state === filter.status}>
                  {t(`state.${state}`)}
                </option>
              ))}
            </select>
          </Field>
          <a class="button" href={`/api/v1/tasks/${task.id}/report.csv`} download>
            {t('task.csv')}
          </a>
        </form>
        {mayWrite && <ChosenDevices taskId={task.id} />}
        <div
          id="devices"
          hx-get={`/tasks/${task.id}/devices`}
          hx-include="#device-filter"
          hx-trigger="refresh throttle:2s"
          hx-swap="innerMorph"
          hx-sync="this:replace"
          data-follows
        >
          <DeviceTable taskId={task.id} devices={devices} filter={filter} />
        </div>
      </Card>
    </div>
  )
}

const Cards: FC<{ task: TaskView; filter: DeviceFilter }> = ({ task, filter }) => {
  const { t } = usePage()
  const all = ['total', ...UPGRADE_STATES] as const
  return (
    <ul class="cards">
      {all.map((name) => (
        <li>
          <button
            type="button"
            class="card"
            aria-pressed={String((filter.status ?? 'total') === name)}
            data-picks="#device-filter select"
            data-value={name === 'total' ? '' : name}
          >
            <span class="figure" data-figure={`counts.${name}`}>
              {task.counts[name as keyof TaskCounts]}
            </span>
            {t(`state.${name}`)}
          </button>
        </li>
      ))}
    </ul>
  )
}
