import type { FC } from 'hono/jsx'
import { iso } from '../../common/time.ts'
import type { RejectedDevice, VersionShare } from '../../fleet/store.ts'
import { toReason } from '../../reasons/reason.ts'
import type { TaskRow } from '../../tasks/database/tasks.ts'
import { usePage } from '../layout/page.tsx'
import { Card, CountsBar, ShareBar, TaskBadge, Time } from '../layout/parts.tsx'
import { reasonText } from '../reasons.ts'

export const Overview: FC<{ tasks: TaskRow[] }> = ({ tasks }) => {
  const { t } = usePage()
  return (
    <>
      <h1>{t('nav.overview')}</h1>
      <ul class="cards" hx-get="/parts/figures" hx-trigger="load, refresh, every 60s">
        <Figures devices={null} online={null} />
      </ul>
      <div class="columns">
        <div>
          <Card title={t('overview.running')}>
            <div hx-get="/parts/tasks" hx-trigger="refresh, every 5s">
              <RunningTasks tasks={tasks} />
            </div>
          </Card>
          <Card title={t('overview.attention')}>
            <div hx-get="/parts/attention" hx-trigger="load, refresh, every 60s">
              …
            </div>
          </Card>
        </div>
        <Card title={t('overview.versions')}>
          <div hx-get="/parts/versions" hx-trigger="load, refresh, every 300s">
            …
          </div>
        </Card>
      </div>
    </>
  )
}

export const Figures: FC<{ devices: number | null; online: number | null }> = ({ devices, online }) => {
  const { t } = usePage()
  return (
    <>
      <li class="card">
        <span class="figure">{devices ?? '…'}</span>
        <a href="/devices">{t('overview.devices')}</a>
      </li>
      <li class="card">
        <span class="figure">{online ?? '…'}</span>
        <a href="/devices?online=true">{t('overview.online')}</a>
      </li>
    </>
  )
}

export const RunningTasks: FC<{ tasks: TaskRow[] }> = ({ tasks }) => {
  const { t } = usePage()
  if (tasks.length === 0) return <p class="quiet">{t('overview.noTasks')}</p>
  return (
    <>
      {tasks.map(({ id, name, status, counts }) => (
        <div class="task">
          <div class="top">
            <a href={`/tasks/${id}`}>{name}</a>
            <TaskBadge of={status} isEmpty={counts.total === 0} />
          </div>
          <CountsBar counts={counts} />
          <p class="quiet">
            {counts.success} / {counts.total}
          </p>
        </div>
      ))}
    </>
  )
}

export const Versions: FC<{ versions: VersionShare[]; names: Map<string, string> }> = ({
  versions,
  names,
}) => {
  const { t } = usePage()
  if (versions.length === 0) return <p class="quiet">{t('overview.noVersions')}</p>
  return (
    <>
      {[...Map.groupBy(versions, ({ productId }) => productId)].map(([productId, shares]) => {
        const total = shares.reduce((sum, { count }) => sum + count, 0)
        return (
          <>
            <h3>{names.get(productId) ?? productId}</h3>
            <ul class="shares">
              {shares.map(({ version, count }) => (
                <li>
                  <a href={`/devices?productId=${productId}&version=${encodeURIComponent(version)}`}>
                    {version}
                  </a>
                  <ShareBar share={count / total} label={`${version}: ${count}`} />
                  <span>{count}</span>
                </li>
              ))}
            </ul>
          </>
        )
      })}
    </>
  )
}

export interface BridgeStatus {
  name: string
  isAway: boolean
  /** All messages rejected so far, by the code of the reason; empty for a bridge that several tenants share. */
  rejected: Record<string, number>
}

interface AttentionProps {
  stopped: TaskRow[]
  rolledBack: number
  rejected: RejectedDevice[]
  bridges: BridgeStatus[]
}

export const Attention: FC<AttentionProps> = ({ stopped, rolledBack, rejected, bridges }) => {
  const { t, language } = usePage()
  const lines = [
    ...stopped.map(({ id, name, pausedBecause, pausedReason }) => (
      <li>
        <a href={`/tasks/${id}`}>
          {t('overview.halted', {
            name,
            reason: pausedBecause ? reasonText(pausedBecause, language) : (pausedReason ?? ''),
          })}
        </a>
      </li>
    )),
    ...(rolledBack > 0
      ? [
          <li>
            <a href="/devices?rolledBack=true">{t('overview.rolledBack', { count: rolledBack })}</a>
          </li>,
        ]
      : []),
    ...bridges
      .filter(({ isAway }) => isAway)
      .map(({ name }) => <li>{t('overview.bridgeAway', { name })}</li>),
    ...rejected.map(({ deviceId, number, at }) => (
      <li>
        <a href={`/devices/${deviceId}`}>{t('overview.rejected', { number })}</a> <Time at={iso(at)} />
      </li>
    )),
  ]
  return lines.length === 0 ? <p class="quiet">{t('overview.allWell')}</p> : <ul>{lines}</ul>
}

export const Bridges: FC<{ bridges: BridgeStatus[] }> = ({ bridges }) => {
  const { t, language } = usePage()
  return (
    <ul class="bridges" aria-label={t('overview.bridges')}>
      {bridges.map(({ name, isAway, rejected }) => {
        const counts = Object.entries(rejected).map(
          ([code, count]) => `${reasonText(toReason(code), language)} ${count}`,
        )
        return (
          <li>
            {t('product.bridge')} {name}{' '}
            <span class={isAway ? 'badge bad' : 'badge good'}>
              {t(isAway ? 'device.isOffline' : 'device.isOnline')}
            </span>{' '}
            {counts.length > 0 && (
              <span class="quiet">{t('overview.bridgeRejected', { counts: counts.join(', ') })}</span>
            )}
          </li>
        )
      })}
    </ul>
  )
}
