import type { FC } from 'hono/jsx'
import type { DeviceView } from '../../tasks/object/task-view.ts'
import { usePage } from '../layout/page.tsx'
import { Parts, StateBadge, Table, Time } from '../layout/parts.tsx'
import { eventParts } from '../reasons.ts'

/** The events of a device in a task: its messages, what was sent to it, and its changes of state. */
export const TaskHistory: FC<{ events: DeviceView['events'] }> = ({ events }) => {
  const { t, language } = usePage()
  return (
    <Table
      caption={t('task.history')}
      heads={[t('page.time'), t('task.event'), t('task.detail'), t('page.status')]}
      rows={events.map(({ at, code, params, status }) => {
        const { kind, detail } = eventParts(code, params, language)
        return (
          <tr>
            <td class="narrow">
              <Time at={at} />
            </td>
            <td>{kind}</td>
            <td>
              <Parts of={detail} />
            </td>
            <td>{status && <StateBadge of={status} />}</td>
          </tr>
        )
      })}
    />
  )
}
