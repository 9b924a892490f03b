/** The slot: one active upgrade per device and module (src/protocol/README.md#slots). Pure. */

import { type Reason, reason } from '../../reasons/reason.ts'

/** A device's slot as D1 has it. */
export interface Slot {
  taskId: string
  rank: string
  active: boolean
  lastNoticeId: number
  succeededTaskId: string | null
  succeededRank: string | null
  doubtVersion: string | null
  waitingTaskId: string | null
  waitingRank: string | null
  /** What the waiting task upgrades to. */
  waitingVersion: string | null
}

/** A device as it is now, read afresh for each page of notices (src/protocol/README.md#devices-that-change). */
export interface DueDevice {
  id: string
  /** Null if the device was deleted. */
  productId: string | null
  enabled: boolean
  frozen: boolean
  /** The module's version as last reported; null before the first report. */
  version: string | null
  /** Does it run that version for certain (src/protocol/README.md#certainty)? */
  isCertain: boolean
  /** Has no notice gone out since it reported that version? One of before may still be acted on. */
  isReported: boolean
  /** The package of the notices that went out in this attempt since its last report; null if none did. */
  chosenPackageId: string | null
  slot: Slot | null
}

export interface Contender {
  taskId: string
  rank: string
  productId: string
  targetVersion: string
  /** The packages that may be sent, with the version that a differential one starts from; null for a full one. */
  packages: readonly { id: string; sourceVersion: string | null }[]
  /** Newer tasks of the product and module, by the version that they upgrade to. */
  newerTargets: ReadonlyMap<string, string>
  onBusy: 'replace' | 'wait' | 'fail'
}

export type SlotDecision =
  /** Claim the slot, or keep it, and send. */
  | { type: 'claim' }
  | { type: 'cancel'; reason: Reason }
  /** `by` is the newer task, if its id is known. */
  | { type: 'superseded'; by: string | null }
  | { type: 'alreadyOnTarget' }
  /** Nothing is sent now; look again later. */
  | { type: 'hold'; by: Reason }
  /** An older task holds the slot. */
  | { type: 'busy'; holder: string }
  | { type: 'frozen' }

/** What this task does with a device that is due (src/protocol/README.md#slots). */
export function decideSlot(device: DueDevice, me: Contender): SlotDecision {
  if (device.productId === null) return { type: 'cancel', reason: reason('device_deleted') }
  if (device.productId !== me.productId) return { type: 'cancel', reason: reason('device_moved') }
  if (device.frozen) return { type: 'frozen' }
  if (!device.enabled) return { type: 'hold', by: reason('device_disabled') }
  const { slot } = device
  const isMine = slot?.active === true && slot.taskId === me.taskId
  if (slot?.succeededRank && slot.succeededRank > me.rank) {
    return { type: 'superseded', by: slot.succeededTaskId }
  }
  if (slot?.active && slot.rank > me.rank) return { type: 'superseded', by: slot.taskId }
  // A newer task waits: it gets the slot next. If the device reports that task's version, it has what it waits for.
  const newerWaits = slot?.waitingRank != null && slot.waitingRank > me.rank
  if (newerWaits && (!isMine || device.version === slot.waitingVersion)) {
    return { type: 'superseded', by: slot.waitingTaskId }
  }
  if (slot?.active && !isMine) return { type: 'busy', holder: slot.taskId }
  const isOnTarget = device.version === me.targetVersion
  // No task downgrades a device; where that is in doubt, an older one stands back.
  const newer = device.isReported && !isOnTarget ? me.newerTargets.get(device.version ?? '') : undefined
  if (newer !== undefined) return { type: 'superseded', by: newer }
  if (isOnTarget && device.isCertain && !isMine) return { type: 'alreadyOnTarget' }
  if (!choosePackage(me.packages, device)) return { type: 'hold', by: noneFits(me.packages, device) }
  return { type: 'claim' }
}

function noneFits(packages: Contender['packages'], { isCertain }: DueDevice): Reason {
  const sources = packages.flatMap(({ sourceVersion }) => sourceVersion ?? [])
  const [version] = sources
  if (version === undefined) return reason('device_package_recalled')
  if (!isCertain) return reason('version_uncertain')
  return sources.length === 1
    ? reason('only_diff_from', { version })
    : reason('only_diffs_from', { versions: sources.join(', ') })
}

/**
 * The package for a device: the one that it was told of in this attempt; else the diff that starts from the version that
 * it certainly runs, else the full one. Undefined if none fits: a diff on another version than its source can brick it.
 */
export function choosePackage<T extends { id: string; sourceVersion: string | null }>(
  packages: readonly T[],
  { version, isCertain, chosenPackageId }: Pick<DueDevice, 'version' | 'isCertain' | 'chosenPackageId'>,
): T | undefined {
  const full = packages.find(({ sourceVersion }) => sourceVersion === null)
  if (chosenPackageId !== null) {
    // A report that was on its way together with the notice may have said another version than the diff starts from.
    const fits = ({ id, sourceVersion }: T) =>
      id === chosenPackageId && (sourceVersion === null || sourceVersion === version)
    return packages.find(fits) ?? full
  }
  const diff = packages.find(({ sourceVersion }) => sourceVersion !== null && sourceVersion === version)
  return (isCertain ? diff : undefined) ?? full
}

/** May progress belong to an upgrade to another version (src/protocol/README.md#certainty)? */
export const isUnsure = (slot: Slot | null, targetVersion: string) =>
  slot?.doubtVersion != null && slot.doubtVersion !== targetVersion
