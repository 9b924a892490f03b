import { downloadTtlSeconds } from '../../common/env.ts'
import { downloadsMode } from '../../links/linker.ts'
import type { DownloadLink } from '../../links/links.ts'
import { buildNotice, formatNoticeId, type Notice } from '../../protocol/device.ts'
import { reason } from '../../reasons/reason.ts'
import { type AddressedDevice, claimSlots, type DueProduct } from '../database/slots.ts'
import { applyPlan } from '../effects/apply-plan.ts'
import { changeDevice, changeStored, writeDevice } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { linkSeconds, type Plan, spend } from '../rules/rollout.ts'
import { choosePackage, isUnsure } from '../rules/slot.ts'
import type { TaskPackage } from '../rules/task.ts'
import { isTold, type UpgradeEvent } from '../rules/upgrade.ts'
import { type DeviceRow, NEXT_PAGE } from '../storage/device-row.ts'
import { noteShares } from './fair-share.ts'
import { isSendable, sendable, type Turn } from './turn.ts'

// The one way from a device whose turn it is to a notice: its slot, the package that fits, the link, one more look at
// what is true now, and what the notice changes. A bridge's page and a single HTTPS request both go through here.

/** A device or slot that changed between the look and the claim is looked at again after this. */
const CHANGED_LOOK_AGAIN_MS = 5_000
/** The task owns a notice until a broker took it; after this it goes out again under the same id. */
export const LEASE_MS = 60_000

/** How a notice goes out: in a page for a bridge, or as the answer to a device's own request. */
export interface NoticeRoute {
  via: 'bridge' | 'https'
  /** May this device's notice go now, after `sent` others of the page? */
  mayGo: (row: DeviceRow, plan: Plan, sent: number) => boolean
  /** Does it draw on the rate? */
  draws: (row: DeviceRow) => boolean
}

export interface PreparedNotice {
  device: AddressedDevice
  notice: Notice
  /** When its link expires, in ms since 1970. */
  linkExpiresAt: number
}

/**
 * Prepares the notices of these devices and writes them down: if the object dies after that, a bridge's lease runs out
 * and the notice goes out again. A device that ended while its slot was being claimed gives the slot back; a notice that
 * may not go any more (the device has changed since it was looked at, the task paused, the product froze, the package
 * was recalled, the rate is used up) stays owed.
 */
export async function prepareNotices(
  task: TaskContext,
  turn: Turn,
  devices: AddressedDevice[],
  firstNoticeId: number,
  route: NoticeRoute,
): Promise<PreparedNotice[]> {
  const outdated = new Set<string>()
  task.outdated.add(outdated)
  try {
    const { env, spec, now } = task
    const seconds = linkSeconds(spec, spec.policy.downloadTtlSeconds ?? downloadTtlSeconds(env), now())
    const choices = new Map<string, Choice>()
    for (const device of devices) {
      const choice = await choose(task, turn.product, device, seconds)
      if (choice) choices.set(device.id, choice)
    }
    // The last `await`: what is looked at from then on is what is written.
    const claimed = await claim(task, turn.product, devices, firstNoticeId, choices)
    return noteNotices(task, turn, claimed, (id) => (outdated.has(id) ? undefined : choices.get(id)), route)
  } finally {
    task.outdated.delete(outdated)
  }
}

function noteNotices(
  task: TaskContext,
  turn: Turn,
  claimed: Claimed[],
  choiceOf: (deviceId: string) => Choice | undefined,
  route: NoticeRoute,
): PreparedNotice[] {
  const { storage, run, spec, now, save } = task
  const plan = applyPlan(task)
  const isFrozen = turn.freezes !== task.freezes
  const notices: PreparedNotice[] = []
  const drawn = { first: 0, again: 0 }
  const firstOffers: DeviceRow[] = []
  const leaseUntil = now() + LEASE_MS
  for (const { device, noticeId } of claimed) {
    const row = storage.readRow(device.id)
    if (!row || !device.address) continue
    const choice = choiceOf(device.id)
    const mayGo =
      !isFrozen && choice && isSendable(task, choice.pkg.id) && route.mayGo(row, plan, notices.length)
    const changed = mayGo ? noteNotice(task, row, device, noticeId, choice, leaseUntil, route) : row
    if (!mayGo || changed.upgrade === row.upgrade) {
      giveSlotBack(task, row)
      continue
    }
    if (route.via === 'bridge' && isFirst(row)) firstOffers.push(changed)
    else writeDevice(task, changed)
    const notice = buildNotice(noticeId, choice.pkg, choice.link.url, turn.product.defaultModuleParam)
    if (route.draws(row)) drawn[isTold(row.upgrade) ? 'again' : 'first']++
    notices.push({ device, notice, linkExpiresAt: choice.link.expiresAt })
  }
  storage.offered.add(firstOffers, leaseUntil)
  if (notices.length > 0) {
    run.spentUpTo = spend(spec, run, drawn.first + drawn.again, now())
    noteShares(task, drawn)
    // The Worker's links stop while the task pauses; how the latest notices were linked decides.
    run.linksStop = downloadsMode(task.env, turn.product.downloads) === 'worker'
  }
  save()
  return notices
}

/** The device's row after its notice; the same upgrade if it is not owed one any more. */
function noteNotice(
  task: TaskContext,
  row: DeviceRow,
  device: AddressedDevice,
  noticeId: number,
  { pkg, link }: Choice,
  leaseUntil: number,
  { via }: NoticeRoute,
): DeviceRow {
  const known = {
    unsure: isUnsure(device.slot, task.spec.targetVersion),
    neverReported: device.version === null,
  }
  const packageIndex = task.spec.packages.indexOf(pkg)
  const { expiresAt: linkExpiresAt } = link
  const event: UpgradeEvent =
    via === 'bridge'
      ? {
          type: 'offered',
          offer: { noticeId, packageIndex, leaseUntil, linkExpiresAt, online: device.online },
          ...known,
        }
      : { type: 'handedOut', packageIndex, linkExpiresAt, ...known }
  const code = via === 'bridge' ? 'notice_offered' : 'notice_handed_out'
  return changeDevice(task, row, event, { code, params: { noticeId: formatNoticeId(noticeId) } })
}

/** Its outcome is written once more, and frees the slot that was just claimed if the device has ended. */
const giveSlotBack = (task: TaskContext, row: DeviceRow) => writeDevice(task, { ...row, outbox: NEXT_PAGE })

/** Nothing was written of the device since it was taken in, and it waits for no time. */
const isFirst = (row: DeviceRow) => row.events.length === 0 && row.sendAt === null && row.timerAt === null

// ---- The slot -------------------------------------------------------------------------------------------

interface Claimed {
  device: AddressedDevice
  noticeId: number
}

/** The last notice id of any of these devices: the next ones must be greater. */
export const lastNoticeId = (devices: AddressedDevice[]) =>
  Math.max(0, ...devices.map((device) => device.lastNoticeId))

/**
 * Takes the slots of these devices; returns those that it got. A notice that goes out again keeps its id, unless it names
 * another package by now, or the device was sent another one since, for another module.
 */
async function claim(
  task: TaskContext,
  { signing }: DueProduct,
  devices: AddressedDevice[],
  firstNoticeId: number,
  choices: ReadonlyMap<string, Choice>,
): Promise<Claimed[]> {
  const { env, spec, rank, storage, now, save } = task
  const wanted = devices.map((device, index): Claimed => {
    const offer = storage.readRow(device.id)?.upgrade.offer
    const isSame =
      offer?.packageIndex === undefined || spec.packages[offer.packageIndex] === choices.get(device.id)?.pkg
    const again = isSame ? offer?.noticeId : undefined
    return { device, noticeId: again === device.lastNoticeId ? again : firstNoticeId + index }
  })
  const got = await claimSlots(
    env.DB,
    spec,
    rank,
    signing,
    wanted.map(({ device: { id: deviceId, version, isCertain }, noticeId }) => ({
      deviceId,
      noticeId,
      version,
      isCertain,
    })),
  )
  const by = reason('slot_changed_hands')
  for (const { device } of wanted) {
    if (got.has(device.id)) continue
    const held = { type: 'held', until: now() + CHANGED_LOOK_AGAIN_MS, by, waiting: false } as const
    changeStored(task, device.id, held, { code: 'waits', params: { reason: by } })
  }
  save()
  return wanted.filter(({ device }) => got.has(device.id))
}

// ---- The package ----------------------------------------------------------------------------------------

interface Choice {
  pkg: TaskPackage
  link: DownloadLink
}

/** The package that fits the device, and the link to it; undefined if none fits any more, after a recall. */
async function choose(
  task: TaskContext,
  product: DueProduct,
  device: AddressedDevice,
  ttlSeconds: number,
): Promise<Choice | undefined> {
  const { env, spec, now } = task
  const pkg = choosePackage(sendable(task), device)
  if (!pkg) return undefined
  const link = await task.link({
    mode: downloadsMode(env, product.downloads),
    taskId: spec.id,
    deviceId: device.id,
    packageIndex: spec.packages.indexOf(pkg),
    storageKey: pkg.storageKey,
    ttlSeconds,
    now: now(),
  })
  return { pkg, link }
}
