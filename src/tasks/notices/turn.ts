import { iso } from '../../common/time.ts'
import { downloadsMode, linksFault } from '../../links/linker.ts'
import { type EventCode, inEnglish, type Params, type Reason, reason } from '../../reasons/reason.ts'
import { type AddressedDevice, type DueProduct, readDueDevices, waitForSlots } from '../database/slots.ts'
import { applyPlan } from '../effects/apply-plan.ts'
import { changeStored, writeDevice } from '../effects/change-device.ts'
import { slotPeer } from '../effects/other-tasks.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { queueWebhookEvent } from '../effects/webhook-events.ts'
import { reachedTotals } from '../rules/counts.ts'
import { isBridgeAway } from '../rules/rollout.ts'
import { decideSlot, type SlotDecision } from '../rules/slot.ts'
import type { TaskPackage } from '../rules/task.ts'
import { isEnded, UNTIL_TOLD, type UpgradeEvent } from '../rules/upgrade.ts'
import { NEXT_PAGE } from '../storage/device-row.ts'
import type { Chosen } from '../storage/task-storage.ts'
import { filesFault } from './package-files.ts'
import { unsignedBecause } from './signatures.ts'

const MAX_BLOCKED_MS = 15 * 60_000
/** The hub calls when a bridge has credit again, and a product is unfrozen by a call: this is for the call that was lost. */
const BLOCKED_MS = 30_000

/** The id of no package, so that only the full one fits. */
const FULL_ONLY = ''

export interface Turn {
  product: DueProduct
  /** The devices that may be sent a notice, once their slot is claimed. */
  devices: AddressedDevice[]
  /** `TaskContext.freezes` before the look: if it has grown since, nothing may be sent. */
  freezes: number
}

/**
 * A page of devices has its turn: each is read afresh, and what ends, waits or must stand back does so here. Returns
 * the devices that are left to be sent a notice; null while nothing may be sent at all.
 */
export async function takeTurn(task: TaskContext, deviceIds: string[]): Promise<Turn | null> {
  const { env, spec, run, rank, storage, freezes, save } = task
  const lacking = await filesFault(task, sendable(task))
  if (lacking !== null) {
    blockForFile(task, lacking)
    return null
  }
  const { product, devices: found, newerTargets } = await readDueDevices(env.DB, spec, rank, deviceIds)
  const unsigned = product && (await unsignedBecause(task, sendable(task), product.signing))
  if (unsigned) {
    block(task, unsigned)
    save()
    return null
  }
  const me = {
    taskId: spec.id,
    rank,
    productId: spec.productId,
    targetVersion: spec.targetVersion,
    packages: sendable(task),
    newerTargets,
    onBusy: spec.policy.onBusy,
  }
  const chosen = storage.readChosen(deviceIds)
  const devices: AddressedDevice[] = []
  const busy = new Map<string, string[]>()
  let isFrozen = product === null
  for (const looked of found) {
    const told = chosen.get(looked.id)
    const device =
      told === undefined ? looked : { ...looked, chosenPackageId: chosenPackage(spec.packages, told) }
    const decision = decideSlot(device, me)
    if (decision.type === 'claim') devices.push(device)
    else if (decision.type === 'frozen') isFrozen = true
    else if (decision.type === 'busy') {
      busy.set(decision.holder, [...(busy.get(decision.holder) ?? []), device.id])
    } else standBack(task, device.id, decision)
  }
  // Before the next `await`: a call that comes meanwhile, because the product was unfrozen, lifts it again.
  if (isFrozen) freeze(task)
  else run.frozen = false
  const fault = product && linksFault(task.env, downloadsMode(task.env, product.downloads))
  // Nothing is sent while no link can be made.
  if (fault) block(task, fault)
  save()
  for (const [holder, ids] of busy) {
    // The task may have been cancelled or paused meanwhile: then it takes nothing from another task.
    if (applyPlan(task).open) await meetHolder(task, holder, ids)
  }
  save()
  return isFrozen || fault || product === null ? null : { product, devices, freezes }
}

/** After 100 % it may run the target already, and so after a notice of before: a diff from the version of then fits no more. */
const chosenPackage = (packages: TaskPackage[], { index, at100, isOpen }: Chosen) =>
  at100 || isOpen || index === null ? FULL_ONLY : (packages[index]?.id ?? null)

/** No notice of this task for a while, which doubles each time that it is for the same reason. */
function block({ run, now }: TaskContext, by: Reason): void {
  // A device that asks over HTTPS meanwhile makes the task wait no longer.
  if (run.blockedBy?.code === by.code && now() < run.blockedUntil) return
  run.blockedTimes = run.blockedBy?.code === by.code ? run.blockedTimes + 1 : 0
  run.blockedBy = by
  run.blockedUntil = now() + Math.min(BLOCKED_MS * 2 ** run.blockedTimes, MAX_BLOCKED_MS)
}

/** Webhooks are told once. */
function blockForFile(task: TaskContext, why: Reason): void {
  const { run, now, save } = task
  const isKnown = run.blockedBy?.code === why.code
  if (isKnown && now() < run.blockedUntil) return
  block(task, why)
  if (!isKnown && why.code !== 'bucket_unavailable') {
    const data = { since: iso(now()), reason: inEnglish(why), because: why, ...reachedTotals(run) }
    queueWebhookEvent(task, 'task.stalled', data)
  }
  save()
}

/** Nothing is in the way of notices any more, or is to be looked at again. */
export function unblock({ run }: TaskContext): void {
  run.blockedUntil = 0
  run.blockedTimes = 0
  run.blockedBy = null
}

/** The product is frozen: a notice that is being prepared is not sent either. */
export function freeze(task: TaskContext): void {
  task.freezes++
  task.run.frozen = true
  block(task, reason('product_frozen'))
}

/** The hub calls when a bridge has credit again. */
export function blockForCredit(task: TaskContext): void {
  const { run, now, save } = task
  run.creditlessSince ??= now()
  if (!isKnownFrozen(task)) block(task, reason('no_bridge_credit'))
  save()
}

/** Nobody confirmed a notice: as long as none is confirmed, the bridge counts as away. */
export function noteUnconfirmed({ run, now }: TaskContext): void {
  run.unconfirmedSince ??= now()
}

/** The bridge gave a notice back: if its broker stays away, notices are not sent there and back all the time. */
export function noteReturned(task: TaskContext): void {
  const { run, now } = task
  noteUnconfirmed(task)
  if (isBridgeAway(run, now()) && now() >= run.blockedUntil) block(task, reason('broker_unreachable'))
}

/** A broker answered for a notice. */
export function noteConfirmed(task: TaskContext): void {
  task.run.unconfirmedSince = null
  noteBroker(task)
}

/** Something came through the broker: it is back. */
export function noteBroker(task: TaskContext): void {
  if (task.run.blockedBy?.code === 'broker_unreachable') unblock(task)
}

/** The packages that were not recalled. */
export const sendable = ({ spec, run }: TaskContext) =>
  spec.packages.filter(({ id }) => !run.recalled.includes(id))

export const isSendable = ({ run }: TaskContext, packageId: string) => !run.recalled.includes(packageId)

/** What a bridge or its broker will do by itself: a notice comes soon. */
const OF_BRIDGE = ['no_bridge_credit', 'broker_unreachable']

/** Is there something in the way that no bridge can mend: nothing is due then, however soon a device asks? */
export const isKnownBlocked = ({ run, now }: TaskContext) =>
  run.blockedBy !== null && !OF_BRIDGE.includes(run.blockedBy.code) && now() < run.blockedUntil

/** Was the product frozen when a turn last looked? */
export const isKnownFrozen = ({ run, now }: TaskContext) =>
  run.blockedBy?.code === 'product_frozen' && now() < run.blockedUntil

/** A device is about to wait to be told something. */
function noteHolding(task: TaskContext): void {
  const { run, storage, now } = task
  if (storage.readHeld('', 1).length > 0) return
  run.heldFrom = now()
  task.held = { round: 0, cursor: null }
}

type StandingBack = Exclude<SlotDecision, { type: 'claim' | 'frozen' | 'busy' }>

function standBack(task: TaskContext, deviceId: string, decision: StandingBack): void {
  if (decision.type === 'hold') noteHolding(task)
  changeStored(task, deviceId, toEvent(decision), toNote(decision))
  // It was deleted or moved, and the task not told.
  if (decision.type === 'cancel') changeStored(task, deviceId, { type: 'left' }, { code: 'device_left' })
}

const toEvent = (decision: StandingBack): UpgradeEvent => {
  if (decision.type === 'hold') {
    return { type: 'held', until: UNTIL_TOLD, by: decision.by, waiting: false }
  }
  return decision.type === 'cancel' ? { type: 'cancelled', reason: decision.reason } : decision
}

function toNote(decision: StandingBack): { code: EventCode; params: Params } {
  switch (decision.type) {
    case 'hold':
      return { code: 'waits', params: { reason: decision.by } }
    case 'cancel':
      return { code: 'cancelled', params: { reason: decision.reason } }
    case 'superseded':
      return { code: 'superseded', params: decision.by === null ? {} : { taskId: decision.by } }
    case 'alreadyOnTarget':
      return { code: 'already_on_target', params: {} }
  }
}

/** An older task holds the slots: `onBusy` says what becomes of the devices (src/protocol/README.md#slots). */
async function meetHolder(task: TaskContext, holder: string, deviceIds: string[]): Promise<void> {
  const { env, spec, rank, storage, save } = task
  const { onBusy } = spec.policy
  // A task that only waits asks too: the holder may have been cut off after an end, before it freed the slot.
  const yielded = new Set(
    await slotPeer(env, holder).yieldSlots(deviceIds, onBusy === 'replace' ? spec.id : null),
  )
  const kept = deviceIds.filter((deviceId) => !yielded.has(deviceId))
  for (const deviceId of yielded) {
    // Written even if nothing changed, so that the device is owed its notice outside the first pass too.
    const note = { code: 'slot_freed', params: { taskId: holder }, always: true } as const
    changeStored(task, deviceId, { type: 'lookAgain' }, note)
  }
  if (onBusy === 'fail') {
    const note = { code: 'slot_busy', params: { taskId: holder } } as const
    for (const deviceId of kept) changeStored(task, deviceId, { type: 'busy' }, note)
    save()
    return
  }
  save()
  if (kept.length === 0) return
  const displaced = await waitForSlots(env.DB, spec, rank, kept)
  const by = reason('busy_with_task', { taskId: holder })
  noteHolding(task)
  for (const deviceId of kept) {
    const held = { type: 'held', until: UNTIL_TOLD, by, waiting: true } as const
    changeStored(task, deviceId, held, { code: 'waits', params: { reason: by } })
    // A device that ended meanwhile waits for nothing: its outcome is written once more, and says so in D1.
    const row = storage.readRow(deviceId)
    if (row && isEnded(row.upgrade.status)) writeDevice(task, { ...row, outbox: NEXT_PAGE })
  }
  save()
  await Promise.all(
    [...Map.groupBy(displaced, ({ taskId }) => taskId)].map(([taskId, group]) =>
      slotPeer(env, taskId).replaceDevices(
        group.map(({ deviceId }) => deviceId),
        spec.id,
      ),
    ),
  )
}
