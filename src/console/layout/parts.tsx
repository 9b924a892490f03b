import type { Child, FC, PropsWithChildren } from 'hono/jsx'
import type { Part, Reason } from '../../reasons/reason.ts'
import type { TaskCounts, TaskStatus } from '../../tasks/rules/task.ts'
import type { UpgradeStatus } from '../../tasks/rules/upgrade.ts'
import { reasonParts } from '../reasons.ts'
import { usePage } from './page.tsx'

// The components that all pages share.

/** A time (ISO 8601, UTC), which the page's script shows in the visitor's zone. */
export const Time: FC<{ at: string | null }> = ({ at }) =>
  at === null ? <>–</> : <time datetime={at}>{at.replace('T', ' ').replace(/\.\d+Z$/, ' UTC')}</time>

/** The parts of a text, with its times as times and its reasons in the visitor's language. */
export const Parts: FC<{ of: Part[] }> = ({ of: parts }) => {
  const { language } = usePage()
  return (
    <>
      {parts.map((part) => {
        if (typeof part === 'string') return part
        const { name, value } = part
        if (typeof value === 'object') return <Parts of={reasonParts(value, language)} />
        return name === 'at' ? <Time at={String(value)} /> : String(value)
      })}
    </>
  )
}

/** Why something is as it is: a reason in the visitor's language; without one, what somebody said. */
export const Why: FC<{ reason: Reason | null; said?: string | null }> = ({ reason, said = null }) => {
  const { language } = usePage()
  return reason === null ? said : <Parts of={reasonParts(reason, language)} />
}

const STATE_LOOKS: Record<UpgradeStatus, string> = {
  pending: '',
  pushed: 'warn',
  upgrading: 'busy',
  success: 'good',
  failure: 'bad',
  cancelled: '',
}
export const StateBadge: FC<{ of: UpgradeStatus }> = ({ of }) => (
  <span class={`badge ${STATE_LOOKS[of]}`}>{usePage().t(`state.${of}`)}</span>
)

const TASK_LOOKS: Record<TaskStatus, string> = {
  scheduled: '',
  running: 'busy',
  paused: 'warn',
  finished: 'good',
  cancelled: '',
}
/** A task that found no devices is no good end. */
export const TaskBadge: FC<{ of: TaskStatus; isEmpty: boolean }> = ({ of, isEmpty }) => (
  <span class={`badge ${of === 'finished' && isEmpty ? 'warn' : TASK_LOOKS[of]}`}>
    {usePage().t(`task.${of}`)}
  </span>
)

const BAR_ORDER = ['success', 'failure', 'upgrading', 'pushed', 'cancelled'] as const

/** A task's devices by state, in one bar. */
export const CountsBar: FC<{ counts: TaskCounts }> = ({ counts }) => {
  const { t } = usePage()
  const total = Math.max(counts.total, 1)
  let from = 0
  const text = BAR_ORDER.filter((state) => counts[state] > 0).map(
    (state) => `${t(`state.${state}`)} ${counts[state]}`,
  )
  return (
    <svg
      class="bar"
      viewBox="0 0 100 1"
      preserveAspectRatio="none"
      role="img"
      aria-label={text.join(', ') || '0'}
    >
      {BAR_ORDER.map((state) => {
        const width = (100 * counts[state]) / total
        from += width
        return width > 0 && <rect class={state} x={from - width} y="0" width={width} height="1" />
      })}
    </svg>
  )
}

/** A share as a bar; `share` is from 0 to 1. */
export const ShareBar: FC<{ share: number; label: string }> = ({ share, label }) => (
  <svg class="bar" viewBox="0 0 100 1" preserveAspectRatio="none" role="img" aria-label={label}>
    <rect class="upgrading" x="0" y="0" width={Math.min(100, 100 * share)} height="1" />
  </svg>
)

export const Card: FC<PropsWithChildren<{ title?: string }>> = ({ title, children }) => (
  <section class="card">
    {title && <h2>{title}</h2>}
    {children}
  </section>
)

/** A table whose `rows` are `<tr>` elements; without rows, a text that says so. */
export const Table: FC<{ heads: Child[]; rows: Child[]; caption?: string }> = ({ heads, rows, caption }) => {
  const { t } = usePage()
  if (rows.length === 0) return <p class="quiet">{t('page.none')}</p>
  return (
    <section
      class="scroll"
      tabindex={0}
      aria-label={caption ?? heads.filter((head) => typeof head === 'string').join(', ')}
    >
      <table>
        <thead>
          <tr>
            {heads.map((head) => (
              <th scope="col">{head}</th>
            ))}
          </tr>
        </thead>
        <tbody>{rows}</tbody>
      </table>
    </section>
  )
}

export const NextPage: FC<{
  path: string
  query: Record<string, string | undefined>
  cursor: string | null
}> = ({ path, query, cursor }) => {
  const { t } = usePage()
  if (cursor === null) return null
  const search = new URLSearchParams({ ...withoutEmpty(query), cursor })
  return (
    <p>
      <a class="button" href={`${path}?${search}`}>
        {t('page.more')}
      </a>
    </p>
  )
}

export const withoutEmpty = (query: Record<string, string | undefined>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(query).filter(
      (entry): entry is [string, string] => entry[1] !== undefined && entry[1] !== '',
    ),
  )

/** A labelled control. */
export const Field: FC<PropsWithChildren<{ label: string; hint?: string }>> = ({ label, hint, children }) => (
  // biome-ignore lint/a11y/noLabelWithoutControl: the control is its child
  <label>
    <span>{label}</span>
    {children}
    {hint && <small>{hint}</small>}
  </label>
)

/** A dialog, opened by a button with `data-opens="#id"`. */
export const Dialog: FC<PropsWithChildren<{ id: string; title: string }>> = ({ id, title, children }) => (
  <dialog id={id} aria-labelledby={`${id}-title`}>
    <h2 id={`${id}-title`}>{title}</h2>
    {children}
  </dialog>
)

/** The end of a dialog's form: a place for errors, a button to cancel and one to submit, which `action` names. */
export const DialogEnd: FC<{ action: string }> = ({ action }) => {
  const { t } = usePage()
  return (
    <>
      <p class="fault" data-fault role="alert" />
      <div class="buttons">
        <button type="button" data-closes>
          {t('page.cancel')}
        </button>
        <button type="submit" class="main">
          {action}
        </button>
      </div>
    </>
  )
}
