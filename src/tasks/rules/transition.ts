import { isSameReason, reason } from '../../reasons/reason.ts'
import { asked, progressed, reminded, reportedOther, reportedTarget, subscribed } from './device-events.ts'
import { answered, handedOut, offered, owedAgain, sent } from './notice-events.ts'
import {
  type AutoRetry,
  codeOf,
  end,
  fetched,
  isEnded,
  isRetriable,
  isWaiting,
  nextAttempt,
  present,
  released,
  seenAgain,
  type Upgrade,
  type UpgradeEvent,
  type UpgradeRules,
} from './upgrade.ts'

/** What can heal by itself. Other failures are the file's or the device's fault. */
const HEALS: NonNullable<AutoRetry['on']> = ['timeout', -1, -2]
const MINUTE_MS = 60_000

/**
 * The transition table (src/protocol/README.md#states). Returns the same object if the event changes nothing, so that a
 * repeat writes nothing.
 */
export function transition(upgrade: Upgrade, event: UpgradeEvent, rules: UpgradeRules): Upgrade {
  const next = changed(upgrade, event, rules)
  return next.status === 'failure' && upgrade.status !== 'failure' ? toBeRetried(next, rules) : next
}

/** What `autoRetry.on` calls the failure; null if it has no word for it. */
function kindOf({ cause }: Upgrade): NonNullable<AutoRetry['on']>[number] | null {
  if (cause === 'timed_out') return 'timeout'
  return cause === 'wrong_version' ? cause : codeOf(cause)
}

/** A Failure that may heal is retried automatically, each time after twice the wait. */
function toBeRetried(failed: Upgrade, { autoRetry, now }: UpgradeRules): Upgrade {
  const kind = kindOf(failed)
  const { times, backoffMinutes, on = HEALS } = autoRetry ?? { times: 0, backoffMinutes: 0 }
  if (kind === null || failed.autoRetries >= times || !on.includes(kind)) return failed
  return { ...failed, retryAt: now + backoffMinutes * MINUTE_MS * 2 ** failed.autoRetries }
}

/** The device was seen without a message: it connected, or it downloads. */
function seen(upgrade: Upgrade, { now }: UpgradeRules): Upgrade {
  if (isEnded(upgrade.status)) return seenAgain(upgrade)
  return upgrade.pushes === 0 ? upgrade : present(upgrade, now)
}

/** Its silence says nothing, so it does not count as reached either. */
function unheard(upgrade: Upgrade): Upgrade {
  if (upgrade.gone || upgrade.reachedAt === null) return upgrade
  if (isEnded(upgrade.status)) return unseenNoMore(upgrade)
  return { ...upgrade, reachedAt: null }
}

/** After its 100 % it will not be seen again: it counts for nothing any more. */
const unseenNoMore = (upgrade: Upgrade): Upgrade =>
  upgrade.unseen ? { ...seenAgain(upgrade), reachedAt: null, failedBefore: false } : upgrade

/** The silence of an Upgrading device counts from now on. */
const quietFrom = ({ status, lastMessageAt }: Upgrade, { now }: UpgradeRules) =>
  status === 'upgrading' ? now : lastMessageAt

function changed(upgrade: Upgrade, event: UpgradeEvent, rules: UpgradeRules): Upgrade {
  switch (event.type) {
    case 'offered':
      return offered(upgrade, event)
    case 'sent':
      return sent(upgrade, event.noticeId)
    case 'taken':
    case 'offline':
    case 'returned':
      return answered(upgrade, event.type, event.noticeId, rules)
    case 'leaseExpired':
      return owedAgain(upgrade)
    case 'handedOut':
      return handedOut(upgrade, event, rules)
    case 'progress':
      return progressed(upgrade, event, rules)
    case 'version':
      return event.version === rules.targetVersion
        ? reportedTarget(upgrade, event, rules)
        : reportedOther(upgrade, event, rules)
    case 'subscribed':
      return subscribed(upgrade, rules)
    case 'connected':
    case 'seen':
      return seen(upgrade, rules)
    case 'fetched':
      return fetched(seen(upgrade, rules), event.download)
    case 'late':
      return upgrade
    case 'gone':
      return (upgrade.unseen || (upgrade.status === 'pushed' && upgrade.reachedAt !== null)) && !upgrade.gone
        ? { ...upgrade, gone: true }
        : upgrade
    case 'unheard':
      return unheard(upgrade)
    case 'left':
      return isEnded(upgrade.status) && !upgrade.left ? { ...unseenNoMore(upgrade), left: true } : upgrade
    case 'rejoined':
      return upgrade.left ? { ...nextAttempt(upgrade), failedBefore: false } : upgrade
    case 'timeoutChanged':
      return upgrade.gone ? { ...upgrade, gone: false } : upgrade
    case 'reminded':
      return reminded(upgrade, rules)
    case 'asked':
      return asked(upgrade, event.viaBridge, rules)
    case 'held':
      return isEnded(upgrade.status) || isHeldSo(upgrade, event)
        ? upgrade
        : {
            ...upgrade,
            heldUntil: event.until,
            heldBy: event.by,
            waiting: upgrade.waiting || event.waiting,
          }
    case 'enabled':
      // What it did while it was shut out was heard by nobody.
      return isEnded(upgrade.status)
        ? upgrade
        : released({ ...upgrade, lastMessageAt: quietFrom(upgrade, rules) })
    case 'lookAgain':
      return isEnded(upgrade.status) || upgrade.heldUntil === null ? upgrade : released(upgrade)
    case 'alreadyOnTarget':
      return upgrade.status === 'pending'
        ? end(upgrade, 'success', reason('already_on_target'), { reportedTarget: true })
        : upgrade
    case 'silent':
      return upgrade.status === 'upgrading'
        ? end(upgrade, 'failure', reason('timed_out'), { cause: 'timed_out' })
        : upgrade
    case 'busy':
      return upgrade.status === 'pending'
        ? end(upgrade, 'failure', reason('slot_busy'), { cause: 'busy' })
        : upgrade
    case 'retried':
      return isRetriable(upgrade) ? nextAttempt(upgrade) : upgrade
    case 'retriedItself':
      return upgrade.status === 'failure' && upgrade.retryAt !== null
        ? { ...nextAttempt(upgrade), autoRetries: upgrade.autoRetries + 1 }
        : upgrade
    case 'notRetried':
      return upgrade.retryAt === null ? upgrade : { ...upgrade, retryAt: null }
    case 'cancelled':
      return isEnded(upgrade.status) ? upgrade : end(upgrade, 'cancelled', event.reason)
    case 'replaced':
      return isWaiting(upgrade)
        ? end(upgrade, 'cancelled', reason('replaced_by', { taskId: event.by }))
        : upgrade
    case 'superseded':
      // It comes up just before a notice. Better no notice for a device that has begun than one that downgrades it.
      return isEnded(upgrade.status) ? upgrade : end(upgrade, 'cancelled', supersededBy(event.by))
    case 'endReached':
      return isWaiting(upgrade) ? end(upgrade, 'cancelled', reason('end_reached')) : upgrade
  }
}

const isHeldSo = (upgrade: Upgrade, { until, by, waiting }: Extract<UpgradeEvent, { type: 'held' }>) =>
  upgrade.heldUntil === until && isSameReason(upgrade.heldBy, by) && (upgrade.waiting || !waiting)

const supersededBy = (taskId: string | null) =>
  taskId === null ? reason('superseded') : reason('superseded_by', { taskId })
