import type { FC } from 'hono/jsx'
import type { TaskView } from '../../tasks/object/task-view.ts'
import { UPGRADE_STATES } from '../../tasks/rules/upgrade.ts'
import type { Sample } from '../../tasks/storage/task-journal.ts'
import { usePage } from '../layout/page.tsx'
import { Charts } from './task-charts.tsx'
import { TaskState } from './task-state.tsx'

/** What is kept of a task when its object is gone: nothing here follows or changes it. */
export const ArchivedTask: FC<{ task: TaskView; samples: Sample[] }> = ({ task, samples }) => {
  const { t } = usePage()
  return (
    <>
      <TaskState task={task} isArchived />
      <p class="quiet">{t('task.archived')}</p>
      <ul class="cards">
        {(['total', ...UPGRADE_STATES] as const).map((name) => (
          <li class="card">
            <span class="figure">{task.counts[name]}</span>
            {t(`state.${name}`)}
          </li>
        ))}
      </ul>
      <div class="columns">
        <Charts task={task} samples={samples} />
      </div>
      <a class="button" href={`/api/v1/tasks/${task.id}/report.csv`} download>
        {t('task.csv')}
      </a>
    </>
  )
}
