import { hubStub } from '../../hub/hub.ts'
import type { Notice } from '../../protocol/device.ts'
import { applyPlan } from '../effects/apply-plan.ts'
import { changeStored, waveOf } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { isWaveOpen } from '../rules/counts.ts'
import { isTold, owesRepush } from '../rules/upgrade.ts'
import type { DeviceRow } from '../storage/device-row.ts'
import { resendsNow } from './fair-share.ts'
import { lastNoticeId, type NoticeRoute, prepareNotices } from './prepare-notices.ts'
import { hasRoom } from './room.ts'
import { takeTurn } from './turn.ts'

/**
 * The due notice for a device that asks over HTTPS; null if none is due here (src/protocol/README.md#states). An
 * Upgrading device gets it also while the task is paused, and whatever the rate.
 */
export async function handOut(task: TaskContext, deviceId: string): Promise<Notice | null> {
  const { run, storage, save } = task
  changeStored(
    task,
    deviceId,
    { type: 'asked', viaBridge: false },
    { code: 'asked', params: { via: 'HTTPS' } },
  )
  // Others of the fleet can be reached without a bridge, even where this one's wave is closed.
  run.polled ||= storage.readRow(deviceId) !== undefined
  save()
  const route = byHttps(task)
  // Twice: a slot that its holder yields on the first look is free on the second, and what has changed is read anew.
  for (let look = 0; look < 2; look++) {
    const row = storage.readRow(deviceId)
    if (!row || (row.upgrade.owed === 'no' && row.upgrade.offer === null)) return null
    if (!route.mayGo(row, applyPlan(task), 0)) return null
    const turn = await takeTurn(task, [deviceId])
    if (!turn) return null
    if (turn.devices.length === 0) continue
    const hub = hubStub(task.env, turn.product.hub)
    const { firstNoticeId } = await hub.prepare(1, lastNoticeId(turn.devices), null)
    const [prepared] = await prepareNotices(task, turn, turn.devices, firstNoticeId, route)
    if (prepared) return prepared.notice
  }
  return null
}

const byHttps = (task: TaskContext): NoticeRoute => ({
  via: 'https',
  mayGo: (row, { open, asks, quota }) => {
    if (row.upgrade.status === 'upgrading') return asks
    const mayDraw = isTold(row.upgrade) ? resendsNow(task, open, quota) > 0 : quota > 0
    return (
      open &&
      hasRoom(task, row, 'https') &&
      (mayDraw || !draws(row)) &&
      isWaveOpen(task.run, waveOf(task, row))
    )
  },
  draws,
})

/** A device that asks again and again is handed the same notice, which the rate has counted. */
const draws = ({ upgrade }: DeviceRow) => upgrade.pushes === 0 || owesRepush(upgrade)
