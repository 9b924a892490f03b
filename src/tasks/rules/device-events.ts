import { reason } from '../../reasons/reason.ts'
import {
  because,
  causeOf,
  end,
  isEnded,
  isOutstanding,
  isWaiting,
  NOT_HELD,
  owesRepush,
  present,
  released,
  seenAgain,
  seenDuringOffer,
  type Upgrade,
  type UpgradeEvent,
  type UpgradeRules,
} from './upgrade.ts'

// What the device says and does (src/protocol/README.md#states). Pure; part of the transition table.

/** A subscription this soon after a taken notice gets no notice, and a −2 may still be about the notice before it. */
const JUST_TOLD_MS = 60_000
const MAX_REMINDERS = 3

function heard(upgrade: Upgrade, viaBridge: boolean, rules: UpgradeRules): Upgrade {
  return {
    ...present(upgrade, rules.now),
    offline: false,
    lastMessageAt: rules.now,
    viaBridge: upgrade.viaBridge || viaBridge,
  }
}

export function progressed(
  upgrade: Upgrade,
  event: Extract<UpgradeEvent, { type: 'progress' }>,
  rules: UpgradeRules,
): Upgrade {
  const { step, description } = event
  if (upgrade.status === 'success' && step < 0) return failedAfterAll(upgrade, step, description, rules.now)
  // The same 100 once more may have been said, or sent again, before the device restarts.
  if (isEnded(upgrade.status)) return saidAfterEnd(upgrade, step)
  // Progress from a device that was sent nothing in this attempt changes nothing.
  if (upgrade.pushes === 0) return upgrade
  const next: Upgrade = {
    ...heard(upgrade, event.viaBridge, rules),
    step,
    description,
    ...gotFurther(upgrade, step),
    // Progress after `sent` shows that the device has the notice: a lost PUBACK need not be waited for.
    ...(upgrade.offer?.sent && { offer: null, owed: 'no' }),
    // A notice was owed because it subscribed: now that it has begun, another one would only restart its download.
    ...(upgrade.offer === null && upgrade.owed === 'due' && { ...NOT_HELD, owed: 'no' }),
  }
  if (step < 0) return failed(upgrade, next, rules)
  if (step < 100) return { ...next, status: 'upgrading' }
  const reached: Upgrade = { ...next, reached100: true }
  if (rules.confirm === 'version' || (upgrade.unsure && !upgrade.neverReported)) {
    return { ...reached, status: 'upgrading' }
  }
  return end(reached, 'success', upgrade.unsure ? reason('unverified') : null, { unseen: true })
}

/** A flaky link is no wrong version: whoever got further than ever before is told again as often as at first. */
const gotFurther = (upgrade: Upgrade, step: number) =>
  step > (upgrade.bestStep ?? -1) ? { bestStep: step, ...(upgrade.repushes > 0 && { repushes: 0 }) } : {}

function saidAfterEnd(upgrade: Upgrade, step: number): Upgrade {
  if (upgrade.status === 'success') return step === 100 ? upgrade : seenAgain(upgrade)
  // It was given up here, and goes on all the same.
  const isNews = upgrade.pushes > 0 && !upgrade.reportedTarget && !upgrade.wentOn
  return step >= 0 && isNews ? { ...upgrade, wentOn: true } : upgrade
}

const wasJustTold = (upgrade: Upgrade, rules: UpgradeRules) =>
  upgrade.lastTakenAt !== null && rules.now - upgrade.lastTakenAt < JUST_TOLD_MS

/**
 * Had every link expired that the device can have tried? A device that is back from a long absence finds a stale notice
 * in its queue, just before or while a fresh one reaches it.
 */
function linksHadExpired(upgrade: Upgrade, rules: UpgradeRules): boolean {
  const isPast = (expiresAt: number | null) => expiresAt !== null && expiresAt <= rules.now
  const freshOne = upgrade.offer?.sent === true || wasJustTold(upgrade, rules)
  if (isPast(upgrade.linkExpiresAt) || (freshOne && isPast(upgrade.earlierLinkExpiresAt))) return true
  // Stopped since its last notice, or just before that one.
  const { linksStoppedUntil: until = null } = rules
  const since = (upgrade.lastTakenAt ?? rules.now) - (freshOne ? JUST_TOLD_MS : 0)
  return until !== null && until > since
}

function failed(before: Upgrade, next: Upgrade, rules: UpgradeRules): Upgrade {
  const step = next.step as number
  if (step === -2 && linksHadExpired(before, rules)) {
    const stays = { ...heard(before, next.viaBridge, rules), ...because(reason('link_expired')) }
    if (isOutstanding(stays, rules.now)) return stays
    if (before.repushes < rules.mismatchPushes) return { ...released(stays), owed: 'repush' }
  }
  const cause = causeOf(step)
  return end(next, 'failure', reason(cause, { said: next.description || null }), { cause })
}

/** −1 … −4 after 100 %, before any report: the image that was taken for good did not last. */
function failedAfterAll(upgrade: Upgrade, step: number, said: string | null, now: number): Upgrade {
  if (!upgrade.reached100 || upgrade.reportedTarget || upgrade.rolledBack) return seenAgain(upgrade)
  const failure = reason(causeOf(step), { said: said || null })
  const reachedAt = upgrade.reachedAt ?? now
  return {
    ...seenAgain(upgrade),
    ...because(reason('failed_after_100', { failure })),
    reachedAt,
    rolledBack: true,
  }
}

export function reportedTarget(
  upgrade: Upgrade,
  event: Extract<UpgradeEvent, { type: 'version' }>,
  rules: UpgradeRules,
): Upgrade {
  const next: Upgrade = {
    ...heard(upgrade, event.viaBridge, rules),
    // The next notice chooses its package by this report.
    packageIndex: null,
    reportedSinceNotice: true,
    reportedTarget: true,
    reportedSince: true,
    wentOn: false,
  }
  switch (upgrade.status) {
    case 'pending':
    case 'pushed':
    case 'upgrading':
      return end(next, 'success', upgrade.pushes === 0 ? reason('already_on_target') : null)
    case 'failure':
      return event.isHolder
        ? end(next, 'success', reason('late'), { rolledBack: false })
        : reportedAfterEnd(upgrade, rules)
    case 'success':
      if (upgrade.rolledBack && event.isHolder) return { ...next, ...because(null), rolledBack: false }
      return upgrade.reportedTarget ? upgrade : seenAgain(next)
    case 'cancelled': {
      const after = reportedAfterEnd(upgrade, rules)
      return after.reportedTarget || !after.reportedSince ? after : { ...after, reportedTarget: true }
    }
  }
}

export function reportedOther(
  upgrade: Upgrade,
  event: Extract<UpgradeEvent, { type: 'version' }>,
  rules: UpgradeRules,
): Upgrade {
  const { version } = event
  if (upgrade.status === 'success') {
    const isRollback = event.isHolder && upgrade.reached100 && !upgrade.reportedTarget && !upgrade.rolledBack
    return isRollback
      ? {
          ...seenAgain(upgrade),
          ...because(reason('rolled_back', { version })),
          reachedAt: upgrade.reachedAt ?? rules.now,
          rolledBack: true,
          reportedSince: true,
        }
      : reportedAfterEnd(seenAgain(upgrade), rules)
  }
  if (upgrade.status === 'cancelled' && upgrade.reportedTarget) {
    return { ...reportedAfterEnd(upgrade, rules), reportedTarget: false }
  }
  if (isEnded(upgrade.status)) return reportedAfterEnd(upgrade, rules)
  const outstanding = isOutstanding(upgrade, rules.now)
  const next = seenDuringOffer({
    ...heard(upgrade, event.viaBridge, rules),
    // The next notice chooses its package by this report.
    packageIndex: null,
    reportedSinceNotice: true,
    neverReported: false,
    mayGoOut: upgrade.mayGoOut && rules.now < upgrade.mayGoOut.until ? upgrade.mayGoOut : null,
  })
  // It may wait for just this version: a differential package starts from one.
  if (upgrade.status === 'pending') return outstanding ? released(next) : { ...next, owed: 'due' }
  if (rules.confirm === 'version' && upgrade.reached100 && !upgrade.unsure) {
    return end(next, 'failure', reason('rolled_back_failure', { version }), {
      cause: 'rolled_back',
      rolledBack: true,
      reportedSince: true,
    })
  }
  // A report counts only if it answers a notice: a notice that is owed or on its way answers this report too.
  if (outstanding) return next
  if (upgrade.repushes < rules.mismatchPushes) return { ...released(next), owed: 'repush' }
  const why = reason('wrong_version', { version, notices: upgrade.repushes })
  return end(next, 'failure', why, { cause: 'wrong_version', reportedSince: true })
}

function reportedAfterEnd(upgrade: Upgrade, { now }: UpgradeRules): Upgrade {
  const { mayGoOut } = upgrade
  const isOver = mayGoOut !== null && mayGoOut.until > 0 && now >= mayGoOut.until
  if (!upgrade.mayHaveNotice || (upgrade.reportedSince && !upgrade.wentOn && !isOver)) return upgrade
  return {
    ...upgrade,
    reportedSince: true,
    wentOn: false,
    mayGoOut: isOver ? { ...mayGoOut, until: 0 } : mayGoOut,
  }
}

export function subscribed(upgrade: Upgrade, rules: UpgradeRules): Upgrade {
  if (isEnded(upgrade.status)) return seenAgain(upgrade)
  const next = present(upgrade, rules.now)
  if (!isWaiting(upgrade)) return next
  if (isOutstanding(upgrade, rules.now)) return seenDuringOffer(next)
  if (!wasJustTold(upgrade, rules)) return { ...released(next), owed: 'due' }
  // What it was just sent may have gone into a dead connection. Whatever it says until then shows that it did not.
  const until = upgrade.lastTakenAt! + JUST_TOLD_MS
  if (upgrade.lastMessageAt !== null && upgrade.lastMessageAt > upgrade.lastTakenAt!) return next
  return { ...next, owed: 'due', heldUntil: until, heldBy: reason('told_just_now') }
}

/** Silent, though it is connected: the notice goes out again, a few times. It may well upgrade later, when it is idle. */
export const reminded = (upgrade: Upgrade, rules: UpgradeRules): Upgrade =>
  upgrade.status === 'pushed' && upgrade.reminders < MAX_REMINDERS && !isOutstanding(upgrade, rules.now)
    ? { ...released(upgrade), owed: 'due', reminders: upgrade.reminders + 1 }
    : upgrade

export function asked(upgrade: Upgrade, viaBridge: boolean, rules: UpgradeRules): Upgrade {
  if (isEnded(upgrade.status)) return seenAgain(upgrade)
  const next = seenDuringOffer(heard(upgrade, viaBridge, rules))
  // A notice that is owed already, or on its way, answers the question.
  if (upgrade.status !== 'upgrading') {
    return isOutstanding(upgrade, rules.now) ? next : { ...released(next), owed: 'due' }
  }
  const onItsWay = upgrade.offer !== null && upgrade.owed === 'no'
  if (onItsWay) return next
  return { ...next, owed: 'asked', askedRepush: owesRepush(upgrade) }
}
