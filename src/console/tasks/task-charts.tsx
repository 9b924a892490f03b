import type { FC } from 'hono/jsx'
import type { TaskView } from '../../tasks/object/task-view.ts'
import { NO_COUNTS } from '../../tasks/rules/task.ts'
import type { Sample } from '../../tasks/storage/task-journal.ts'
import { useMay, usePage } from '../layout/page.tsx'
import { Card, ShareBar, Table, Time, Why } from '../layout/parts.tsx'
import { ProgressChart } from './progress-chart.tsx'

/** Adds the task's start, without counts, and its present counts: the latest sample is up to a minute old. */
function withEnds(samples: Sample[], { status, startAt, finishedAt, counts }: TaskView): Sample[] {
  if (status === 'scheduled') return []
  const start = { at: Date.parse(startAt), counts: NO_COUNTS }
  const end = { at: finishedAt === null ? Date.now() : Date.parse(finishedAt), counts }
  return [start, ...samples.filter(({ at }) => at > start.at && at < end.at), end]
}

/** Progress over time, why devices failed, and the waves. */
export const Charts: FC<{ task: TaskView; samples: Sample[] }> = ({ task, samples }) => {
  const { t } = usePage()
  const mayWrite = useMay('operator')
  const failed = task.failures.reduce((sum, { count }) => sum + count, 0)
  const openWave = task.waves.findLastIndex(({ openedAt }) => openedAt !== null)
  return (
    <>
      <Card title={t('task.progress')}>
        <ProgressChart samples={withEnds(samples, task)} total={task.counts.total} />
      </Card>
      <Card title={t('task.failures')}>
        {failed === 0 && <p class="quiet">{t('task.noFailures')}</p>}
        <ul class="shares">
          {task.failures.map(({ code, cause, description, because, count }) => (
            <li>
              <span>
                {code} <Why reason={because} said={description || cause} />
              </span>
              <ShareBar share={count / failed} label={`${description ?? cause}: ${count}`} />
              <span>{count}</span>
            </li>
          ))}
        </ul>
      </Card>
      {task.waves.length > 0 && (
        <Card title={t('task.waves')}>
          <Table
            heads={[
              '#',
              '%',
              t('nav.devices'),
              t('task.reached'),
              t('state.success'),
              t('state.failure'),
              t('task.opened'),
            ]}
            rows={task.waves.map((wave, index) => (
              <tr>
                <td>{index + 1}</td>
                <td class="narrow">
                  {wave.percent} <span class="quiet">(≥ {task.policy.waves?.[index]?.successPercent} %)</span>
                </td>
                <td>{wave.devices}</td>
                <td>{wave.reached}</td>
                <td>{wave.succeeded}</td>
                <td>{wave.failed}</td>
                <td>
                  <Time at={wave.openedAt} />
                </td>
              </tr>
            ))}
          />
          {mayWrite && openWave >= 0 && openWave + 1 < task.waves.length && (
            <button
              type="button"
              data-api={`POST /api/v1/tasks/${task.id}/waves/next`}
              data-confirm={t('task.nextWaveAsk', { number: openWave + 2 })}
            >
              {t('task.nextWave')}
            </button>
          )}
        </Card>
      )}
    </>
  )
}
