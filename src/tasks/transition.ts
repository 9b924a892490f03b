import { asked, progressed, reportedOther, reportedTarget, subscribed } from './device-events.ts'
import { answered, handedOut, offered, owedAgain, sent } from './notice-events.ts'
import {
  end,
  FRESH_ATTEMPT,
  isEnded,
  isWaiting,
  released,
  type Upgrade,
  type UpgradeEvent,
  type UpgradeRules,
} from './upgrade.ts'

/**
 * The table of PROTOCOL.md, section 4. Returns the same object where the event changes nothing, so that a repeat
 * writes nothing.
 */
export function transition(upgrade: Upgrade, event: UpgradeEvent, rules: UpgradeRules): Upgrade {
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
    case 'asked':
      return asked(upgrade, event.viaBridge, rules)
    case 'held':
      return isEnded(upgrade.status)
        ? upgrade
        : {
            ...upgrade,
            heldUntil: event.until,
            heldBy: event.by,
            waiting: upgrade.waiting || event.waiting,
          }
    case 'lookAgain':
      return isEnded(upgrade.status) || upgrade.heldUntil === null ? upgrade : released(upgrade)
    case 'alreadyOnTarget':
      return upgrade.status === 'pending'
        ? end(upgrade, 'success', 'already on the target version', { reportedTarget: true })
        : upgrade
    case 'silent':
      return upgrade.status === 'upgrading'
        ? end(upgrade, 'failure', 'timed out', { cause: 'timed_out' })
        : upgrade
    case 'busy':
      return upgrade.status === 'pending'
        ? end(upgrade, 'failure', 'another upgrade is active', { cause: 'busy' })
        : upgrade
    case 'retried':
      return upgrade.status === 'failure' || upgrade.status === 'cancelled'
        ? { ...FRESH_ATTEMPT, attempt: upgrade.attempt + 1 }
        : upgrade
    case 'cancelled':
      return isEnded(upgrade.status) ? upgrade : end(upgrade, 'cancelled', event.reason)
    case 'replaced':
      return isWaiting(upgrade) ? end(upgrade, 'cancelled', `replaced by ${event.by}`) : upgrade
    case 'superseded':
      // Comes up just before a notice: rather none for a device that has begun than one that downgrades it.
      return isEnded(upgrade.status) ? upgrade : end(upgrade, 'cancelled', `superseded by ${event.by}`)
    case 'endReached':
      return isWaiting(upgrade) ? end(upgrade, 'cancelled', "the task's end was reached") : upgrade
  }
}
