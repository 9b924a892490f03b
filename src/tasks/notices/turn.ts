import { downloadsMode, workerLinksFault } from '../../links/linker.ts'
import { type AddressedDevice, type DueProduct, readDueDevices, waitForSlots } from '../database/slots.ts'
import { currentPlan } from '../effects/apply-plan.ts'
import { changeStored, writeDevice } from '../effects/change-device.ts'
import { slotPeer } from '../effects/other-tasks.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { decideSlot, type SlotDecision } from '../rules/slot.ts'
import { isEnded, type UpgradeEvent } from '../rules/upgrade.ts'
import { NEXT_PAGE } from '../storage/device-row.ts'

/** One who waits also looks by itself this often, so that a lost call costs only time (PROTOCOL.md, 5). */
const LOOK_AGAIN_MS = 15 * 60_000
/** An emergency stop is lifted by a call; this is for the call that was lost. */
const FROZEN_LOOK_AGAIN_MS = 30_000
const FROZEN = 'the product is frozen'
/** The hub calls when a bridge has credit again; this is for the call that was lost. */
const NO_CREDIT_LOOK_AGAIN_MS = 30_000

export interface Turn {
  product: DueProduct
  /** The devices that may be sent a notice, once their slot is claimed. */
  claims: AddressedDevice[]
  /** `TaskContext.freezes` before the look: where it has grown since, nothing may be sent. */
  freezes: number
}

/**
 * A page of devices has its turn: each is read afresh, and what ends, waits or must stand back does so here.
 * Answers who is left to be sent a notice; null while nothing may be sent at all.
 */
export async function takeTurn(
  task: TaskContext,
  deviceIds: string[],
  now: () => number,
): Promise<Turn | null> {
  const { env, spec, rank, freezes } = task
  const me = {
    taskId: spec.id,
    rank,
    productId: spec.productId,
    targetVersion: spec.targetVersion,
    packages: sendable(task),
    onBusy: spec.policy.onBusy,
  }
  const { product, devices } = await readDueDevices(env.DB, spec, deviceIds)
  const claims: AddressedDevice[] = []
  const busy = new Map<string, string[]>()
  let frozen = product === null
  for (const device of devices) {
    const decision = decideSlot(device, me)
    if (decision.type === 'claim') claims.push(device)
    else if (decision.type === 'frozen') frozen = true
    else if (decision.type === 'busy') {
      busy.set(decision.holder, [...(busy.get(decision.holder) ?? []), device.id])
    } else standBack(task, device.id, decision, now())
  }
  // Before the next `await`: a call that comes meanwhile, because it was unfrozen, lifts it again.
  if (frozen) freeze(task, now())
  const fault = product && linksFault(task, product)
  if (fault) block(task, fault, now() + FROZEN_LOOK_AGAIN_MS)
  task.storage.writeRun(task.run)
  for (const [holder, deviceIds] of busy) {
    // It may have been cancelled or paused meanwhile: then it takes nothing from anybody.
    if (currentPlan(task, now()).open) await meetHolder(task, holder, deviceIds, now)
  }
  task.storage.writeRun(task.run)
  return frozen || fault || product === null ? null : { product, claims, freezes }
}

/** Nothing is sent while no link can be made. */
const linksFault = ({ env }: TaskContext, { downloads }: DueProduct): string | null =>
  downloadsMode(env, downloads) === 'worker' ? workerLinksFault(env) : null

/** No notice of this task before `until` (ms), for the reason that operators see. */
function block(task: TaskContext, by: string, until: number): void {
  task.run.blockedBy = by
  task.run.blockedUntil = until
}

/** The product is frozen: also what is being prepared is not sent. */
export function freeze(task: TaskContext, now: number): void {
  task.freezes++
  block(task, FROZEN, now + FROZEN_LOOK_AGAIN_MS)
}

/** The hub calls when a bridge has credit again. */
export function blockForCredit(task: TaskContext, now: number): void {
  if (!foundFrozen(task, now)) block(task, 'its bridge is away or busy', now + NO_CREDIT_LOOK_AGAIN_MS)
  task.storage.writeRun(task.run)
}

/** The packages that were not recalled. */
export const sendable = ({ spec, run }: TaskContext) =>
  spec.packages.filter(({ id }) => !run.recalled.includes(id))

export const isSendable = ({ run }: TaskContext, packageId: string) => !run.recalled.includes(packageId)

/** Was the product frozen when a turn last looked? */
export const foundFrozen = ({ run }: TaskContext, now: number) =>
  run.blockedBy === FROZEN && now < run.blockedUntil

function standBack(
  task: TaskContext,
  deviceId: string,
  decision: Exclude<SlotDecision, { type: 'claim' | 'frozen' | 'busy' }>,
  now: number,
): void {
  const event: UpgradeEvent =
    decision.type === 'hold'
      ? { type: 'held', until: now + LOOK_AGAIN_MS, by: decision.by, waiting: false }
      : decision.type === 'cancel'
        ? { type: 'cancelled', reason: decision.reason }
        : decision
  changeStored(task, deviceId, event, { kind: decision.type, detail: detailOf(decision) }, now)
}

const detailOf = (decision: SlotDecision) =>
  'reason' in decision ? decision.reason : 'by' in decision ? decision.by : null

/** An older task holds the slots: `onBusy` says what becomes of the devices (PROTOCOL.md, 5). */
async function meetHolder(
  task: TaskContext,
  holder: string,
  deviceIds: string[],
  now: () => number,
): Promise<void> {
  const { env, spec, rank } = task
  const { onBusy } = spec.policy
  // Also a task that waits asks: the holder gives back what it ended without freeing, when it was cut off.
  const yielded = new Set(
    await slotPeer(env, holder).yieldSlots(deviceIds, onBusy === 'replace' ? spec.id : null),
  )
  const kept = deviceIds.filter((deviceId) => !yielded.has(deviceId))
  for (const deviceId of yielded) {
    // Written even where nothing changed, so that the device is owed its notice outside the first pass too.
    changeStored(
      task,
      deviceId,
      { type: 'lookAgain' },
      { kind: 'slot freed', detail: holder, always: true },
      now(),
    )
  }
  if (onBusy === 'fail') {
    for (const deviceId of kept) {
      changeStored(task, deviceId, { type: 'busy' }, { kind: 'busy', detail: holder }, now())
    }
    task.storage.writeRun(task.run)
    return
  }
  task.storage.writeRun(task.run)
  if (kept.length === 0) return
  const displaced = await waitForSlots(env.DB, spec, rank, kept)
  for (const deviceId of kept) {
    const held = {
      type: 'held',
      until: now() + LOOK_AGAIN_MS,
      by: `busy with task ${holder}`,
      waiting: true,
    } as const
    changeStored(task, deviceId, held, { kind: 'waits', detail: held.by }, now())
    // Who ended meanwhile waits for nothing: that is written down once more.
    const row = task.storage.readRow(deviceId)
    if (row && isEnded(row.upgrade.status)) writeDevice(task, { ...row, outbox: NEXT_PAGE })
  }
  task.storage.writeRun(task.run)
  await Promise.all(
    [...Map.groupBy(displaced, ({ taskId }) => taskId)].map(([taskId, group]) =>
      slotPeer(env, taskId).replaceDevices(
        group.map(({ deviceId }) => deviceId),
        spec.id,
      ),
    ),
  )
}
