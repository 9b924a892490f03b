import { downloadTtlSeconds } from '../env.ts'
import type { NoticeFrame } from '../hub/frames.ts'
import { hubStub } from '../hub/hub.ts'
import { buildNotice, downlinkTopic, formatNoticeId, type Notice } from '../messages/protocol.ts'
import { changeDevice, changeStored, writeDevice } from './change-device.ts'
import { NOTICE_PAGE_SIZE, planRollout } from './rollout.ts'
import { isUnsure } from './slot.ts'
import { type AddressedDevice, claimSlots, type DueProduct } from './slot-store.ts'
import type { TaskContext } from './task-context.ts'
import type { DeviceRow } from './task-storage.ts'
import { block, takeTurn } from './turn.ts'

/** The task owns a notice until it is taken; after this it goes out again under the same id. */
const LEASE_MS = 60_000
/** The hub calls when a bridge has credit again; this is for the call that was lost. */
const NO_CREDIT_LOOK_AGAIN_MS = 30_000
/** A slot that was lost between the look and the claim is looked at again after this. */
const SLOT_LOST_LOOK_AGAIN_MS = 5_000

/** A device whose slot is claimed, and the id of the notice that goes to it. */
interface Claimed {
  device: AddressedDevice
  noticeId: number
}

/**
 * Sends the next page of notices that are owed and due: first those that were owed before, then the devices whose
 * first turn comes. Answers whether there may be more to send at once.
 */
export async function sendPage(task: TaskContext, now: () => number): Promise<boolean> {
  const { storage, run, spec } = task
  if (now() < run.blockedUntil) return false
  const plan = planRollout(spec, run.status, now())
  if (!plan.open && !plan.asks) return false
  const limit = plan.open ? plan.quota : NOTICE_PAGE_SIZE
  const owed = storage.readOwed(now(), !plan.open, limit)
  if (owed.length > 0) {
    await sendTo(task, owed, now)
    return true
  }
  if (!plan.open || run.sendCursor === null) return false
  const fresh = storage.readFresh(run.sendCursor, limit)
  const cursor = fresh.length < limit ? null : fresh.at(-1)!.deviceId
  if (cursor === null && run.enrolment !== null) {
    // The rest of the devices is still being taken in.
    if (fresh.length === 0) return false
  }
  const toSend = fresh.filter((row) => row.upgrade.owed !== 'no')
  const unsent = toSend.length === 0 ? undefined : await sendTo(task, toSend, now)
  if (unsent === undefined)
    run.sendCursor = cursor === null && run.enrolment ? fresh.at(-1)!.deviceId : cursor
  else run.sendCursor = before(unsent, fresh, run.sendCursor)
  storage.writeRun(run)
  return unsent === undefined
}

/** The cursor that has `deviceId` as its next. */
function before(deviceId: string, fresh: DeviceRow[], cursor: string | null): string | null {
  const at = fresh.findIndex((row) => row.deviceId === deviceId)
  return at > 0 ? fresh[at - 1]!.deviceId : cursor
}

/**
 * Sends a notice to each of these devices for which one is due, as far as the bridge's credit goes. Answers the
 * first device that was left out for want of credit; undefined where none was.
 */
export async function sendTo(
  task: TaskContext,
  rows: DeviceRow[],
  now: () => number,
): Promise<string | undefined> {
  const turn = await takeTurn(task, rows, now)
  if (turn === null) return rows[0]!.deviceId
  const { product, claims } = turn
  if (claims.length === 0) return undefined
  const hub = hubStub(task.env, product.hub)
  const { credit, firstNoticeId } = await hub.prepare(claims.length, lastNoticeId(claims), task.spec.id)
  const left = claims[credit]
  // Written before the next `await`: a hub that calls with more credit meanwhile lifts it again.
  if (left) {
    block(task, 'its bridge is away or busy', now() + NO_CREDIT_LOOK_AGAIN_MS)
    task.storage.writeRun(task.run)
  }
  const affordable = claims.slice(0, credit)
  if (affordable.length > 0) {
    const claimed = await claim(task, affordable, firstNoticeId, now)
    const frames = await offer(task, product, claimed, now)
    const taken = frames.length === 0 ? 0 : await hub.offer(frames, task.spec.id)
    for (const frame of frames.slice(taken)) {
      const noticeId = Number(frame.notice.id)
      changeStored(
        task,
        frame.notice.device,
        { type: 'returned', noticeId },
        { kind: 'notice not taken' },
        now(),
      )
    }
  }
  task.storage.writeRun(task.run)
  return left?.id
}

const lastNoticeId = (devices: AddressedDevice[]) =>
  Math.max(0, ...devices.map((device) => device.lastNoticeId))

/** Takes the slots. A notice that goes out again keeps its id. */
async function claim(
  task: TaskContext,
  devices: AddressedDevice[],
  firstNoticeId: number,
  now: () => number,
): Promise<Claimed[]> {
  const wanted = devices.map((device, index): Claimed => {
    const again = task.storage.readRow(device.id)?.upgrade.offer?.noticeId
    return { device, noticeId: again === device.slot?.lastNoticeId && again ? again : firstNoticeId + index }
  })
  const got = await claimSlots(
    task.env.DB,
    task.spec,
    task.rank,
    wanted.map(({ device, noticeId }) => ({ deviceId: device.id, noticeId })),
  )
  for (const { device } of wanted) {
    if (got.has(device.id)) continue
    const held = {
      type: 'held',
      until: now() + SLOT_LOST_LOOK_AGAIN_MS,
      by: 'its slot changed hands',
      waiting: false,
    } as const
    changeStored(task, device.id, held, { kind: 'waits', detail: held.by }, now())
  }
  return wanted.filter(({ device }) => got.has(device.id))
}

/**
 * Writes the offers down before the bridge gets them: cut off in between, the lease runs out and the notice goes
 * out again. What ended while its slot was being claimed gives the slot back.
 */
async function offer(
  task: TaskContext,
  product: DueProduct,
  claimed: Claimed[],
  now: () => number,
): Promise<NoticeFrame[]> {
  const link = await signLink(task, now())
  const frames: NoticeFrame[] = []
  const at = now()
  const { open, asks } = planRollout(task.spec, task.run.status, at)
  for (const { device, noticeId } of claimed) {
    const row = task.storage.readRow(device.id)
    if (!row || !device.address) continue
    const mayGo = open || (asks && row.upgrade.owed === 'asked')
    const event = {
      type: 'offered',
      offer: { noticeId, leaseUntil: at + LEASE_MS, linkExpiresAt: link.expiresAt },
      ...doubts(task, device),
    } as const
    const note = { kind: 'notice offered', detail: formatNoticeId(noticeId) }
    const changed = mayGo ? changeDevice(task, row, event, note, at) : row
    if (changed === row) {
      writeDevice(task, { ...row, outbox: true })
      continue
    }
    writeDevice(task, changed)
    frames.push({
      notice: { task: task.spec.id, device: device.id, id: formatNoticeId(noticeId) },
      username: device.address.accessToken,
      topic: downlinkTopic(device.address),
      payload: JSON.stringify(buildNotice(noticeId, task.spec.package, link.url, product.defaultModuleParam)),
      expiresInSeconds: Math.floor((link.expiresAt - at) / 1000),
    })
  }
  task.storage.writeRun(task.run)
  return frames
}

const doubts = (task: TaskContext, device: AddressedDevice) => ({
  unsure: isUnsure(device.slot, task.spec.package.version),
  neverReported: device.version === null,
})

const signLink = (task: TaskContext, now: number) =>
  task.signDownload(
    task.env,
    task.spec.package.storageKey,
    task.spec.policy.downloadTtlSeconds ?? downloadTtlSeconds(task.env),
    now,
  )

/**
 * The due notice for a device that asks over HTTPS, or null where none is due here (PROTOCOL.md, 3 and 4). An
 * Upgrading device gets it also while the task is paused.
 */
export async function handOut(
  task: TaskContext,
  deviceId: string,
  now: () => number,
): Promise<Notice | null> {
  const asked = { type: 'asked', viaBridge: false } as const
  changeStored(task, deviceId, asked, { kind: 'asked', detail: 'HTTPS' }, now())
  task.storage.writeRun(task.run)
  // Twice: a slot that its holder yields on the first look is free on the second.
  for (let look = 0; look < 2; look++) {
    const row = task.storage.readRow(deviceId)
    if (!row || (row.upgrade.owed === 'no' && row.upgrade.offer === null)) return null
    if (!mayHandOut(task, row, now())) return null
    const turn = await takeTurn(task, [row], now)
    const device = turn?.claims[0]
    if (!turn || (!device && look > 0)) return null
    if (!device) continue
    const hub = hubStub(task.env, turn.product.hub)
    const { firstNoticeId } = await hub.prepare(1, lastNoticeId([device]), null)
    const [claimed] = await claim(task, [device], firstNoticeId, now)
    if (!claimed) return null
    const link = await signLink(task, now())
    const event = { type: 'handedOut', linkExpiresAt: link.expiresAt, ...doubts(task, device) } as const
    const note = { kind: 'notice handed out', detail: formatNoticeId(claimed.noticeId), always: true }
    const stored = task.storage.readRow(deviceId)!
    const changed = mayHandOut(task, stored, now()) ? changeDevice(task, stored, event, note, now()) : stored
    if (changed.upgrade === stored.upgrade) {
      writeDevice(task, { ...stored, outbox: true })
      return null
    }
    writeDevice(task, changed)
    task.storage.writeRun(task.run)
    return buildNotice(claimed.noticeId, task.spec.package, link.url, turn.product.defaultModuleParam)
  }
  return null
}

/** The task may have been paused or cancelled since the last look. */
function mayHandOut(task: TaskContext, { upgrade }: DeviceRow, now: number): boolean {
  const { open, asks } = planRollout(task.spec, task.run.status, now)
  return open || (asks && upgrade.status === 'upgrading')
}
