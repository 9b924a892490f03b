import { hubStub } from '../../hub/hub.ts'
import type { NoticeFrame } from '../../protocol/bridge.ts'
import { downlinkTopic } from '../../protocol/device.ts'
import { applyPlan } from '../effects/apply-plan.ts'
import { changeStored, waveOf } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { isWaveOpen } from '../rules/counts.ts'
import type { Plan } from '../rules/rollout.ts'
import { openWave, type TaskRun } from '../rules/task-run.ts'
import type { DeviceRow } from '../storage/device-row.ts'
import { inOpenWave, resendsNow } from './fair-share.ts'
import { lastNoticeId, type NoticeRoute, type PreparedNotice, prepareNotices } from './prepare-notices.ts'
import { hasRoom, holdIfFull } from './room.ts'
import { blockForCredit, takeTurn } from './turn.ts'

/**
 * Sends the next page of notices that are owed and due: first those that were owed before, then the devices whose
 * first turn comes. Returns whether there may be more to send at once.
 */
export async function sendPage(task: TaskContext): Promise<boolean> {
  const { storage, run, now, save } = task
  const plan = applyPlan(task)
  if (now() < run.blockedUntil || plan.quota === 0 || (!plan.open && !plan.asks)) return false
  const owed = readOwed(task, plan)
  if (owed.length > 0) {
    await sendTo(
      task,
      owed.map(({ deviceId }) => deviceId),
    )
    return true
  }
  if (!plan.open || run.cuts === null || run.sendCursor === null) return false
  const cursor = run.sendCursor
  const wave = openWave(run)
  const filledAt = run.waves[wave]?.filledAt
  const { rows, next } = storage.readFresh(cursor, plan.quota, inOpenWave(task))
  // The rest of the devices is still being taken in.
  const isEnrolling = next === null && run.enrolment !== null
  if (isEnrolling && rows.length === 0) return false
  const unsent = await sendTo(
    task,
    rows.map(({ deviceId }) => deviceId),
  )
  // If a wave opened or was filled up meanwhile, sending begins again from the first device.
  if (openWave(run) !== wave || run.waves[wave]?.filledAt !== filledAt) return true
  if (unsent === undefined) run.sendCursor = isEnrolling ? rows.at(-1)!.deviceId : next
  else {
    const at = rows.findIndex((row) => row.deviceId === unsent)
    if (at > 0) run.sendCursor = rows[at - 1]!.deviceId
  }
  save()
  return unsent === undefined
}

/** Whom to send a notice that was owed before. With a rate, first notices get their share of it. */
function readOwed(task: TaskContext, { open, quota }: Plan): DeviceRow[] {
  const { storage, spec, now } = task
  if (spec.policy.ratePerMinute === undefined) return storage.readOwed(now(), !open, quota)
  const first = open ? storage.readOwed(now(), false, quota, 'first') : []
  const again = storage.readOwed(now(), !open, resendsNow(task, open, quota), 'again')
  return [...again, ...first].slice(0, quota)
}

const byBridge = (task: TaskContext): NoticeRoute => ({
  via: 'bridge',
  mayGo: (row, { open, asks, quota }, sent) =>
    sent < quota &&
    isWaveOpen(task.run, waveOf(task, row)) &&
    hasRoom(task, row) &&
    (open || (asks && row.upgrade.owed === 'asked')),
  draws: () => true,
})

/**
 * Sends a notice to each of these devices that is due one, as far as the bridge's credit goes. Returns the first
 * device that was left out for want of credit; undefined if none was.
 */
export async function sendTo(task: TaskContext, deviceIds: string[]): Promise<string | undefined> {
  const wanted = holdIfFull(task, deviceIds)
  if (wanted.length === 0) return undefined
  const turn = await takeTurn(task, wanted)
  if (turn === null) return wanted[0]
  const { run } = task
  const { product, devices } = turn
  if (devices.length === 0) return undefined
  const hub = hubStub(task.env, product.hub)
  const { credit, firstNoticeId } = await hub.prepare(devices.length, lastNoticeId(devices), task.spec.id)
  const left = devices[credit]
  // Written before the next `await`: a hub that calls with more credit meanwhile lifts the block again.
  if (left) blockForCredit(task)
  const affordable = devices.slice(0, credit)
  if (affordable.length > 0) {
    const notices = await prepareNotices(task, turn, affordable, firstNoticeId, byBridge(task))
    const taken = notices.length === 0 ? 0 : await hub.offer(toFrames(task, notices), task.spec.id)
    // The hub calls when it has credit again; until then it is not asked again and again.
    if (taken > 0) noteTaken(run)
    if (taken < notices.length) blockForCredit(task)
    for (const { device, notice } of notices.slice(taken)) {
      const returned = { type: 'returned', noticeId: Number(notice.id) } as const
      changeStored(task, device.id, returned, { code: 'notice_not_taken' })
    }
  }
  task.save()
  return left?.id
}

/** A bridge is there; its broker may not be. */
function noteTaken(run: TaskRun): void {
  run.creditlessSince = null
  if (run.unconfirmedSince === null) run.blockedTimes = 0
}

const toFrames = ({ spec, now }: TaskContext, notices: PreparedNotice[]): NoticeFrame[] =>
  notices.flatMap(({ device: { id, address }, notice, linkExpiresAt }) =>
    address === null
      ? []
      : {
          notice: { task: spec.id, device: id, id: notice.id },
          username: address.accessToken,
          topic: downlinkTopic(address),
          payload: JSON.stringify(notice),
          expiresInSeconds: Math.floor((linkExpiresAt - now()) / 1000),
        },
  )
