import { hubStub } from '../../hub/hub.ts'
import { buildNotice, formatNoticeId, type Notice } from '../../protocol/device.ts'
import { currentPlan } from '../effects/apply-plan.ts'
import { changeDevice, changeStored, waveOf, writeDevice } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { isWaveOpen } from '../rules/counts.ts'
import { spend } from '../rules/rollout.ts'
import { type DeviceRow, NEXT_PAGE } from '../storage/device-row.ts'
import { claim, doubts, lastNoticeId, noteLinks, pack } from './claim.ts'
import { isSendable, takeTurn } from './turn.ts'

/**
 * The due notice for a device that asks over HTTPS, or null where none is due here (PROTOCOL.md, 3 and 4). An
 * Upgrading device gets it also while the task is paused, and whatever the rate, of which it takes its part.
 */
export async function handOut(
  task: TaskContext,
  deviceId: string,
  now: () => number,
): Promise<Notice | null> {
  const { run, spec, storage } = task
  const asked = { type: 'asked', viaBridge: false } as const
  changeStored(task, deviceId, asked, { kind: 'asked', detail: 'HTTPS' }, now())
  storage.writeRun(run)
  // Twice: a slot that its holder yields on the first look is free on the second.
  for (let look = 0; look < 2; look++) {
    const row = storage.readRow(deviceId)
    if (!row || (row.upgrade.owed === 'no' && row.upgrade.offer === null)) return null
    if (!mayHandOut(task, row, now())) return null
    const turn = await takeTurn(task, [deviceId], now)
    const device = turn?.claims[0]
    if (!turn || (!device && look > 0)) return null
    if (!device) continue
    const { product } = turn
    const { firstNoticeId } = await hubStub(task.env, product.hub).prepare(1, lastNoticeId([device]), null)
    const [claimed] = await claim(task, [device], firstNoticeId, now)
    if (!claimed) return null
    const parcel = await pack(task, product, device, now())
    const stored = storage.readRow(deviceId)!
    const mayGo = turn.freezes === task.freezes && mayHandOut(task, stored, now())
    if (!mayGo || !parcel || !isSendable(task, parcel.pkg.id)) {
      writeDevice(task, { ...stored, outbox: NEXT_PAGE })
      return null
    }
    const { pkg, link } = parcel
    const event = { type: 'handedOut', linkExpiresAt: link.expiresAt, ...doubts(task, device) } as const
    const note = { kind: 'notice handed out', detail: formatNoticeId(claimed.noticeId), always: true }
    const changed = changeDevice(task, stored, event, note, now())
    if (changed.upgrade === stored.upgrade) {
      writeDevice(task, { ...stored, outbox: NEXT_PAGE })
      return null
    }
    writeDevice(task, changed)
    run.spentUpTo = spend(spec, run, 1, now())
    noteLinks(task, product)
    storage.writeRun(run)
    return buildNotice(claimed.noticeId, pkg, link.url, product.defaultModuleParam)
  }
  return null
}

/** The task may have been paused or cancelled since the last look. */
function mayHandOut(task: TaskContext, row: DeviceRow, now: number): boolean {
  const { open, asks, quota } = currentPlan(task, now)
  if (row.upgrade.status === 'upgrading') return asks
  return open && quota > 0 && isWaveOpen(task.run, waveOf(task, row))
}
