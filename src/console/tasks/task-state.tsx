import type { FC } from 'hono/jsx'
import type { TaskView } from '../../tasks/object/task-view.ts'
import { useMay, usePage } from '../layout/page.tsx'
import { TaskBadge, Time, Why } from '../layout/parts.tsx'

/** A task's state, why it is paused or waits, and the buttons for it. */
export const TaskState: FC<{ task: TaskView; isArchived?: boolean }> = ({ task, isArchived = false }) => {
  const { t } = usePage()
  const mayWrite = useMay('operator')
  const mayDelete = useMay('admin')
  const path = `/api/v1/tasks/${task.id}`
  const isOver = task.status === 'finished' || task.status === 'cancelled'
  return (
    <>
      <div class="top">
        <h1>
          {task.name} <TaskBadge of={task.status} isEmpty={task.counts.total === 0} />
        </h1>
        {mayWrite && (
          <div class="row">
            {task.status === 'paused' ? (
              <button
                type="button"
                data-api={`POST ${path}/resume`}
                data-confirm={t('task.resumeAsk')}
                data-then="#state"
              >
                {t('task.resume')}
              </button>
            ) : (
              !isOver && (
                <button
                  type="button"
                  data-api={`POST ${path}/pause`}
                  data-confirm={t('task.pauseAsk')}
                  data-then="#state"
                >
                  {t('task.pause')}
                </button>
              )
            )}
            {!isArchived && task.status !== 'cancelled' && task.counts.failure > 0 && (
              <button
                type="button"
                data-api={`POST ${path}/retry`}
                data-confirm={t('task.retryAsk', { count: task.counts.failure })}
                data-then="#state"
              >
                {t('task.retry')}
              </button>
            )}
            {!isOver && (
              <button
                type="button"
                class="danger"
                data-api={`POST ${path}/cancel`}
                data-confirm={t('task.cancelAsk', {
                  count: task.counts.pending + task.counts.pushed + task.counts.upgrading,
                })}
                data-then="#state"
              >
                {t('task.cancel')}
              </button>
            )}
            {isOver && mayDelete && (
              <button
                type="button"
                class="danger"
                data-api={`DELETE ${path}`}
                data-confirm={t('task.deleteAsk', { name: task.name, count: task.counts.total })}
                data-then={`/packages/${task.packageIds[0]}`}
              >
                {t('task.delete')}
              </button>
            )}
          </div>
        )}
      </div>
      {task.pausedBecause !== null && (
        <p class="fault">
          <Why reason={task.pausedBecause} />
        </p>
      )}
      {task.waiting !== null && task.pausedBecause === null && (
        <p class="quiet">
          <Why reason={task.waiting} />
        </p>
      )}
      <p class="quiet">
        {t('task.to')} {task.targetVersion} · {t('task.start')} <Time at={task.startAt} />
        {task.endAt !== null && (
          <>
            {' '}
            · {t('task.endAt')} <Time at={task.endAt} />
          </>
        )}
      </p>
    </>
  )
}
