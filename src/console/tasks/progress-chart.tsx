import type { FC } from 'hono/jsx'
import { iso } from '../../common/time.ts'
import type { Sample } from '../../tasks/storage/task-journal.ts'
import { usePage } from '../layout/page.tsx'

const WIDTH = 600
const HEIGHT = 180
const LINES = ['success', 'failure', 'upgrading'] as const

/** The number of devices in each state, over time. */
export const ProgressChart: FC<{ samples: Sample[]; total: number }> = ({ samples, total }) => {
  const { t } = usePage()
  const [first] = samples
  const last = samples.at(-1)
  if (!first || !last || samples.length < 2) return <p class="quiet">{t('page.none')}</p>
  const x = (at: number) => ((at - first.at) / Math.max(1, last.at - first.at)) * WIDTH
  const y = (count: number) => HEIGHT - (count / Math.max(1, total)) * (HEIGHT - 10)
  const text = LINES.map((state) => `${t(`state.${state}`)} ${last.counts[state]}`).join(', ')
  return (
    <figure>
      <svg class="chart" viewBox={`0 0 ${WIDTH} ${HEIGHT + 4}`} role="img" aria-label={text}>
        <line class="axis" x1="0" y1={HEIGHT} x2={WIDTH} y2={HEIGHT} />
        {LINES.map((state) => (
          <polyline
            class={state}
            points={samples
              .map(({ at, counts }) => `${x(at).toFixed(1)},${y(counts[state]).toFixed(1)}`)
              .join(' ')}
          />
        ))}
      </svg>
      <figcaption class="top quiet">
        <time datetime={iso(first.at)}>{iso(first.at)}</time>
        <span>{text}</span>
        <time datetime={iso(last.at)}>{iso(last.at)}</time>
      </figcaption>
    </figure>
  )
}
