import { hubStub } from '../../hub/hub.ts'
import type { NoticeFrame } from '../../protocol/bridge.ts'
import { buildNotice, downlinkTopic, formatNoticeId } from '../../protocol/device.ts'
import { currentPlan } from '../effects/apply-plan.ts'
import { changeDevice, changeStored, waveOf, writeDevice } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { isWaveOpen } from '../rules/counts.ts'
import { spend } from '../rules/rollout.ts'
import { openWave } from '../rules/task-run.ts'
import { type DeviceRow, NEXT_PAGE } from '../storage/device-row.ts'
import { type Claimed, claim, doubts, lastNoticeId, noteLinks, type Parcel, pack } from './claim.ts'
import { blockForCredit, isSendable, type Turn, takeTurn } from './turn.ts'

/** The task owns a notice until it is taken; after this it goes out again under the same id. */
export const LEASE_MS = 60_000

/**
 * Sends the next page of notices that are owed and due: first those that were owed before, then the devices whose
 * first turn comes. Answers whether there may be more to send at once.
 */
export async function sendPage(task: TaskContext, now: () => number): Promise<boolean> {
  const { storage, run } = task
  const plan = currentPlan(task, now())
  if (now() < run.blockedUntil || plan.quota === 0 || (!plan.open && !plan.asks)) return false
  const owed = storage.readOwed(now(), !plan.open, plan.quota)
  if (owed.length > 0) {
    await sendTo(
      task,
      owed.map(({ deviceId }) => deviceId),
      now,
    )
    return true
  }
  if (!plan.open || run.cuts === null || run.sendCursor === null) return false
  const cursor = run.sendCursor
  const wave = openWave(run)
  const { rows, next } = storage.readFresh(cursor, plan.quota, (device) =>
    isWaveOpen(run, waveOf(task, device)),
  )
  const isWaiting = next === null && run.enrolment !== null
  // The rest of the devices is still being taken in.
  if (isWaiting && rows.length === 0) return false
  const unsent = await sendTo(
    task,
    rows.filter((row) => row.upgrade.owed !== 'no').map(({ deviceId }) => deviceId),
    now,
  )
  // A wave that opened meanwhile begins again from the first device.
  if (openWave(run) !== wave) return true
  if (unsent === undefined) run.sendCursor = isWaiting ? rows.at(-1)!.deviceId : next
  else {
    const at = rows.findIndex((row) => row.deviceId === unsent)
    if (at > 0) run.sendCursor = rows[at - 1]!.deviceId
  }
  storage.writeRun(run)
  return unsent === undefined
}

/**
 * Sends a notice to each of these devices for which one is due, as far as the bridge's credit goes. Answers the
 * first device that was left out for want of credit; undefined where none was.
 */
export async function sendTo(
  task: TaskContext,
  deviceIds: string[],
  now: () => number,
): Promise<string | undefined> {
  if (deviceIds.length === 0) return undefined
  const turn = await takeTurn(task, deviceIds, now)
  if (turn === null) return deviceIds[0]
  const { product, claims } = turn
  if (claims.length === 0) return undefined
  const hub = hubStub(task.env, product.hub)
  const { credit, firstNoticeId } = await hub.prepare(claims.length, lastNoticeId(claims), task.spec.id)
  const left = claims[credit]
  // Written before the next `await`: a hub that calls with more credit meanwhile lifts it again.
  if (left) blockForCredit(task, now())
  const affordable = claims.slice(0, credit)
  if (affordable.length > 0) {
    const claimed = await claim(task, affordable, firstNoticeId, now)
    const frames = await offer(task, turn, claimed, now)
    const taken = frames.length === 0 ? 0 : await hub.offer(frames, task.spec.id)
    // The hub calls when there is more; until then it is not asked again and again.
    if (taken < frames.length) blockForCredit(task, now())
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

/**
 * Writes the offers down before the bridge gets them: cut off in between, the lease runs out and the notice goes
 * out again. What ended while its slot was being claimed gives the slot back; what may not go any more, since the
 * task paused, the product froze, the package was recalled or the rate is used up, stays owed.
 */
async function offer(
  task: TaskContext,
  turn: Turn,
  claimed: Claimed[],
  now: () => number,
): Promise<NoticeFrame[]> {
  const parcels: (Parcel | undefined)[] = []
  for (const { device } of claimed) parcels.push(await pack(task, turn.product, device, now()))
  const { run, spec, storage } = task
  const frames: NoticeFrame[] = []
  const firstOffers: DeviceRow[] = []
  const at = now()
  const { open, asks, quota } = currentPlan(task, at)
  const frozen = turn.freezes !== task.freezes
  for (const [index, { device, noticeId }] of claimed.entries()) {
    const row = storage.readRow(device.id)
    if (!row || !device.address) continue
    const parcel = parcels[index]
    const mayGo = !frozen && frames.length < quota && (open || (asks && row.upgrade.owed === 'asked'))
    if (!mayGo || !parcel || !isSendable(task, parcel.pkg.id)) {
      writeDevice(task, { ...row, outbox: NEXT_PAGE })
      continue
    }
    const { pkg, link } = parcel
    const event = {
      type: 'offered',
      offer: { noticeId, leaseUntil: at + LEASE_MS, linkExpiresAt: link.expiresAt, online: device.online },
      ...doubts(task, device),
    } as const
    const note = { kind: 'notice offered', detail: formatNoticeId(noticeId) }
    const changed = changeDevice(task, row, event, note, at)
    if (changed === row) {
      writeDevice(task, { ...row, outbox: NEXT_PAGE })
      continue
    }
    if (isFirst(row)) firstOffers.push(changed)
    else writeDevice(task, changed)
    frames.push({
      notice: { task: spec.id, device: device.id, id: formatNoticeId(noticeId) },
      username: device.address.accessToken,
      topic: downlinkTopic(device.address),
      payload: JSON.stringify(buildNotice(noticeId, pkg, link.url, turn.product.defaultModuleParam)),
      expiresInSeconds: Math.floor((link.expiresAt - at) / 1000),
    })
  }
  storage.offered.add(firstOffers, at + LEASE_MS)
  run.spentUpTo = spend(spec, run, frames.length, at)
  noteLinks(task, turn.product)
  storage.writeRun(run)
  return frames
}

/** Nothing was written of it since it was taken in, and nothing of it waits for a time. */
const isFirst = (row: DeviceRow) => row.events.length === 0 && row.sendAt === null && row.timerAt === null
