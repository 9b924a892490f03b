import { inEnglish, type Reason } from '../../reasons/reason.ts'

/**
 * One device in one task: its states, and what can happen to it. Pure. The transition table is in `transition.ts`
 * (src/protocol/README.md#states). Nothing here sends: `owed` says that a notice goes out as soon as one is due.
 */

export const UPGRADE_STATES = ['pending', 'pushed', 'upgrading', 'success', 'failure', 'cancelled'] as const
export type UpgradeStatus = (typeof UPGRADE_STATES)[number]

/** Why a device failed: as it said itself, by a negative step, or as the server found. */
export type FailureCause = ReportedFailure | 'timed_out' | 'wrong_version' | 'rolled_back' | 'busy'

/** The negative steps by which a device reports a failure (src/protocol/README.md#messages). */
export const FAILURE_CODES = {
  upgrade_failed: -1,
  download_failed: -2,
  verification_failed: -3,
  write_failed: -4,
} as const
type ReportedFailure = keyof typeof FAILURE_CODES
export type FailureCode = (typeof FAILURE_CODES)[ReportedFailure]

/** The negative step of a failure that a device reported; null for what the server found. */
export const codeOf = (cause: FailureCause | null): FailureCode | null =>
  cause !== null && cause in FAILURE_CODES ? FAILURE_CODES[cause as ReportedFailure] : null

/** The cause that a negative step names. */
export const causeOf = (step: number): ReportedFailure =>
  (Object.keys(FAILURE_CODES) as ReportedFailure[]).find((cause) => FAILURE_CODES[cause] === step)!

/** A notice that the bridge has. The task owns it until it is taken: after its lease it goes out again under the same id. */
export interface Offer {
  noticeId: number
  /** Which of the task's packages it names; absent in rows of earlier releases. */
  packageIndex?: number
  leaseUntil: number
  linkExpiresAt: number
  /** The bridge's `sent` record came: the device may have it. */
  sent: boolean
  /** It went out under this id in an earlier lease too: the device may have it, whatever the broker finds now. */
  sentEarlier: boolean
  /** It answers a wrong version or an expired link: one of `mismatchPushes`. */
  repush: boolean
  /** An Upgrading device asked for it: it goes out also while the task is paused. */
  asked: boolean
  /** The bridge gave it back, and it had never gone out. */
  returned?: boolean
  /** The device was seen since: it is told again if the broker had found no subscription just before. */
  turnedUp: boolean
  /** Was it connected when the notice was made? Null if its broker cannot tell. */
  online: boolean | null
}

export interface Upgrade {
  status: UpgradeStatus
  /** From 1; a retry starts the next. */
  attempt: number
  step: number | null
  /** What lists show: the device's own words, or `reason` in the API's English. */
  description: string | null
  /** Why it ended, if not by the device's own words alone; null while it goes on. */
  reason: Reason | null
  cause: FailureCause | null
  /**
   * `due`: a notice goes out when one is due; `repush`: the same, counted among `mismatchPushes`. `asked`: an
   * Upgrading device asked, which a pause does not stop. With an offer: its lease ran out, or it was returned.
   */
  owed: 'no' | 'due' | 'repush' | 'asked'
  /** With `asked`: it asked for what was owed as a `repush`, and that still counts. */
  askedRepush: boolean
  /** Not to be looked at before this time: it waits for a slot, or is disabled. */
  heldUntil: number | null
  /** Why it waits. */
  heldBy: Reason | null
  offer: Offer | null
  /** No session subscribes for it, as the bridge last said. */
  offline: boolean
  /** Notices that went out because a connected device kept silent after one, in this attempt. */
  reminders: number
  /** Notices of this attempt that went out; from the first on, progress counts. */
  pushes: number
  /** Of these, the ones that a wrong version or an expired link caused: at most `mismatchPushes`. */
  repushes: number
  lastTakenAt: number | null
  /**
   * When its notice found it connected, or it was seen after that; null before. Waves and the halt rule count only such
   * *reached* devices.
   */
  reachedAt: number | null
  /** It was reached in an earlier attempt, which failed: until it is reached again it counts as failed. */
  failedBefore: boolean
  /** Silent after its notice or after 100 % for the device timeout, and not connected: it counts as failed until it is back. */
  gone: boolean
  /** A Success by 100 %, and nothing has shown since that the device still runs: it does not count as done well yet. */
  unseen: boolean
  /** When the longest-lived link of this attempt expires, and that of all notices but the latest. */
  linkExpiresAt: number | null
  earlierLinkExpiresAt: number | null
  lastMessageAt: number | null
  /** It was told, or spoke, through a bridge in this attempt: the bridge's silence must not count as the device's. */
  viaBridge: boolean
  reached100: boolean
  /** The highest step of this attempt; null before the first. */
  bestStep: number | null
  /** It said that it goes on after its upgrade had ended here, or was told after that: what it runs is unknown until it reports. */
  wentOn: boolean
  /** It reported its version after the last notice of this attempt went out. */
  reportedSinceNotice: boolean
  /** It reported a version after it ended, or ended by a report: what it runs is certain. */
  reportedSince: boolean
  /** Which of the task's packages the notices of this attempt name, since the device last reported; null before. */
  packageIndex: number | null
  reportedTarget: boolean
  rolledBack: boolean
  /** Progress may belong to another version's upgrade (src/protocol/README.md#certainty). */
  unsure: boolean
  /** This attempt's downloads through the Worker that stand in the history: `began 0`, `completed 0`, by package. */
  downloads: string[]
  /** The device never reported a version for the module. */
  neverReported: boolean
  /** It was deleted, or moved to another product. If it comes back, a dynamic task takes it in again. */
  left: boolean
  /** The slot's row names this task as the one that waits. */
  waiting: boolean
  /** When it ended, a notice had gone out to the device, or the bridge had one that may still do so. */
  mayHaveNotice: boolean
  /**
   * A notice of before that the bridge had, and that may go out up to this time (ms since 1970), or has gone out since (0);
   * null if it had none. Until the device reports after that, no diff is for it.
   */
  mayGoOut: { noticeId: number; until: number } | null
  /** When the Failure is retried automatically; null if it is not. */
  retryAt: number | null
  /** Automatic retries since the enrolment, or since an operator retried. */
  autoRetries: number
  /** The halt rule counts it in this epoch (`TaskRun.halt`); null while it has not settled. */
  epoch: number | null
}

export type UpgradeEvent =
  | {
      type: 'offered'
      offer: Omit<Offer, 'sent' | 'sentEarlier' | 'repush' | 'asked' | 'returned' | 'turnedUp'> & {
        packageIndex: number
      }
      unsure: boolean
      neverReported: boolean
    }
  | { type: 'sent'; noticeId: number }
  | { type: 'taken' | 'offline' | 'returned'; noticeId: number }
  | { type: 'leaseExpired' }
  | {
      type: 'handedOut'
      packageIndex: number
      linkExpiresAt: number
      unsure: boolean
      neverReported: boolean
    }
  | { type: 'progress'; step: number; description: string | null; viaBridge: boolean }
  /** `isHolder`: no other task took the slot since this one had it. */
  | { type: 'version'; version: string; isHolder: boolean; viaBridge: boolean }
  | { type: 'subscribed' }
  /** It connected; a session of before may hold its notice. */
  | { type: 'connected' }
  /** It fetches a package through the Worker: `download` as `Upgrade.downloads` has it. */
  | { type: 'fetched'; download: string }
  | { type: 'gone' }
  /** Silent, and that says nothing: its broker does not tell who is connected, or it is disabled. */
  | { type: 'unheard' }
  /** Something shows that it is there; after 100 %, also that nothing contrary can be known. */
  | { type: 'seen' }
  /** It was deleted, or moved to another product. */
  | { type: 'left' }
  /** It was moved back, and starts clean. */
  | { type: 'rejoined' }
  /** The device timeout was changed: whether it is gone is looked at anew. */
  | { type: 'timeoutChanged' }
  /** Connected, and silent since its notice for the device timeout. */
  | { type: 'reminded' }
  /** Something that stands in the history only. */
  | { type: 'late' }
  | { type: 'asked'; viaBridge: boolean }
  | { type: 'held'; until: number; by: Reason; waiting: boolean }
  | { type: 'lookAgain' }
  /** The device may speak and be told again. */
  | { type: 'enabled' }
  | { type: 'alreadyOnTarget' }
  | { type: 'silent' }
  | { type: 'busy' }
  | { type: 'retried' }
  | { type: 'retriedItself' }
  /** No automatic retry any more: the task ended, an operator said so, or a newer task has the device. */
  | { type: 'notRetried' }
  | { type: 'cancelled'; reason: Reason }
  /** `by` is the newer task. */
  | { type: 'replaced'; by: string }
  | { type: 'superseded'; by: string | null }
  | { type: 'endReached' }

export interface UpgradeRules {
  targetVersion: string
  confirm: 'progress' | 'version'
  mismatchPushes: number
  autoRetry?: AutoRetry | undefined
  /** Up to when links through the Worker were last stopped: by a pause or a freeze (ms since 1970); null if never. */
  linksStoppedUntil?: number | null
  now: number
}

export interface AutoRetry {
  times: number
  backoffMinutes: number
  on?: readonly ('timeout' | 'wrong_version' | FailureCode)[] | undefined
}

/** A device as its enrolment leaves it. */
export const newUpgrade = (): Upgrade => ({ ...FRESH_ATTEMPT, attempt: 1 })

const FRESH_ATTEMPT: Omit<Upgrade, 'attempt'> = {
  status: 'pending',
  step: null,
  description: null,
  reason: null,
  cause: null,
  owed: 'due',
  askedRepush: false,
  heldUntil: null,
  heldBy: null,
  offer: null,
  offline: false,
  reminders: 0,
  pushes: 0,
  repushes: 0,
  lastTakenAt: null,
  reachedAt: null,
  failedBefore: false,
  gone: false,
  unseen: false,
  linkExpiresAt: null,
  earlierLinkExpiresAt: null,
  lastMessageAt: null,
  viaBridge: false,
  reached100: false,
  bestStep: null,
  wentOn: false,
  reportedSinceNotice: false,
  reportedSince: false,
  packageIndex: null,
  reportedTarget: false,
  rolledBack: false,
  unsure: false,
  downloads: [],
  neverReported: false,
  left: false,
  waiting: false,
  mayHaveNotice: false,
  mayGoOut: null,
  retryAt: null,
  autoRetries: 0,
  epoch: null,
}

/** The next attempt. Waves and the halt rule count the device as before until it is reached again. */
export const nextAttempt = (upgrade: Upgrade): Upgrade => ({
  ...FRESH_ATTEMPT,
  attempt: upgrade.attempt + 1,
  failedBefore:
    (upgrade.status === 'failure' || upgrade.rolledBack) &&
    (upgrade.reachedAt !== null || upgrade.failedBefore),
  epoch: upgrade.epoch,
  mayGoOut: mayGoOut(upgrade),
})

export const isEnded = (status: UpgradeStatus) =>
  status === 'success' || status === 'failure' || status === 'cancelled'

/** May an operator have it tried again? */
export const isRetriable = ({ status, rolledBack }: Upgrade) =>
  status === 'failure' || status === 'cancelled' || (status === 'success' && rolledBack)

/** Pending or Pushed: nothing has begun on the device. */
export const isWaiting = (upgrade: Upgrade) => upgrade.status === 'pending' || upgrade.status === 'pushed'

/** A notice is owed or on its way: what the device says now does not answer it yet. */
export const isOutstanding = (upgrade: Upgrade, now: number) =>
  (upgrade.owed !== 'no' && !isToldJustNow(upgrade, now)) || upgrade.offer !== null

/** It subscribed right after a notice, which may have gone into a dead connection: it is told again if it stays silent. */
const isToldJustNow = ({ heldBy, heldUntil }: Upgrade, now: number) =>
  heldBy?.code === 'told_just_now' && heldUntil !== null && now < heldUntil

/** A notice that it is owed is not the first of this attempt. */
export const isTold = ({ pushes }: Upgrade) => pushes > 0

/** The notice that is owed answers a wrong version or an expired link. */
export const owesRepush = ({ owed, askedRepush }: Upgrade) =>
  owed === 'repush' || (owed === 'asked' && askedRepush)

/** `heldUntil` of a device that waits for something that a call tells: it is looked at only now and then. */
export const UNTIL_TOLD = 8_640_000_000_000_000

/** It waits for nothing but its turn. */
export const NOT_HELD = { heldUntil: null, heldBy: null }

export const released = (upgrade: Upgrade): Upgrade => ({ ...upgrade, ...NOT_HELD })

/** The device is connected: it has its notice now, if one went out, and is no longer gone. */
export const present = (upgrade: Upgrade, now: number): Upgrade => {
  const reachedAt = upgrade.pushes > 0 ? (upgrade.reachedAt ?? now) : upgrade.reachedAt
  const isKnown = reachedAt === upgrade.reachedAt && !upgrade.gone && !upgrade.offline
  return isKnown ? upgrade : { ...upgrade, reachedAt, gone: false, offline: false }
}

/** Something shows that the device still runs after its 100 %. */
export const seenAgain = (upgrade: Upgrade): Upgrade =>
  upgrade.unseen ? { ...upgrade, unseen: false, gone: false } : upgrade

/** It downloads a package, perhaps in many parts: each download is kept once. */
export const fetched = (upgrade: Upgrade, download: string): Upgrade =>
  upgrade.downloads.includes(download) ? upgrade : { ...upgrade, downloads: [...upgrade.downloads, download] }

/** The device was seen while the bridge has its notice. */
export const seenDuringOffer = (upgrade: Upgrade): Upgrade =>
  upgrade.offer === null || upgrade.offer.turnedUp
    ? upgrade
    : { ...upgrade, offer: { ...upgrade.offer, turnedUp: true } }

/** The fields that say why. */
export const because = (why: Reason | null, said: string | null = null) => ({
  reason: why,
  description: why === null ? said : inEnglish(why),
})

/** The bridge has a notice for it, which may still go out. */
const isOnItsWay = ({ offer }: Upgrade) => offer !== null && !offer.returned

export const mayGoOut = ({ offer, mayGoOut: earlier }: Upgrade) =>
  offer === null || offer.returned || (offer.sent && !offer.sentEarlier)
    ? earlier
    : { noticeId: offer.noticeId, until: offer.leaseUntil }

/** The upgrade ends: nothing is owed any more. Without a reason the device's own words stay. */
export function end(
  upgrade: Upgrade,
  status: 'success' | 'failure' | 'cancelled',
  why: Reason | null,
  more: Partial<Upgrade> = {},
): Upgrade {
  return {
    ...upgrade,
    ...because(why, upgrade.description),
    status,
    cause: null,
    owed: 'no',
    offer: null,
    heldUntil: null,
    heldBy: null,
    gone: false,
    retryAt: null,
    reportedSinceNotice: upgrade.reportedSinceNotice && !isOnItsWay(upgrade),
    mayHaveNotice: upgrade.pushes > 0 || isOnItsWay(upgrade),
    mayGoOut: mayGoOut(upgrade),
    ...more,
  }
}

/**
 * What an ended upgrade says of the version that the device runs now (src/protocol/README.md#certainty). `same`: what
 * it ran before. `confirmed`: the target, as it reported. `reported`: what it reported since. `assumed`: the target, by
 * 100 %. `unknown`: a notice went out. `doubtful`: likewise, and the device reported after that; it may still do as it was
 * told.
 */
export function versionAfter(
  upgrade: Upgrade,
): 'same' | 'confirmed' | 'reported' | 'assumed' | 'unknown' | 'doubtful' {
  if (upgrade.wentOn) return 'unknown'
  if (upgrade.reportedTarget && upgrade.reportedSince) return 'confirmed'
  if (upgrade.reportedSince)
    return upgrade.mayGoOut === null || upgrade.mayGoOut.until === 0 ? 'reported' : 'doubtful'
  // A device that failed may do as a notice says that the bridge still has.
  const isOpen = upgrade.mayGoOut !== null && upgrade.mayGoOut.until > 0
  if (!upgrade.mayHaveNotice || (codeOf(upgrade.cause) !== null && !isOpen)) return 'same'
  if (upgrade.status === 'success') return 'assumed'
  return upgrade.reportedSinceNotice ? 'doubtful' : 'unknown'
}
