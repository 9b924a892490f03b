import { applyPlan } from '../effects/apply-plan.ts'
import { changeDevice, waveOf, writeDevice } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { isWaveOpen } from '../rules/counts.ts'
import { isTold } from '../rules/upgrade.ts'
import type { DeviceRow } from '../storage/device-row.ts'
import { resendsNow } from './fair-share.ts'
import { sendTo } from './send-notices.ts'
import { isKnownBlocked } from './turn.ts'

/**
 * Devices ask over MQTT what is due (src/protocol/README.md#messages): the notice goes out if there is one, as far as
 * the rate allows; the rest stay owed. Returns the devices that need no "nothing is due".
 */
export async function answerRequests(
  task: TaskContext,
  requests: { deviceId: string; key: string }[],
): Promise<string[]> {
  const { run, storage, save } = task
  const rows: DeviceRow[] = []
  for (const { deviceId, key } of requests) {
    const row = storage.readRow(deviceId)
    if (!row) continue
    const event = { type: 'asked', viaBridge: true } as const
    const changed = changeDevice(task, row, event, { code: 'asked', params: { via: 'MQTT' }, key })
    if (changed !== row) writeDevice(task, changed)
    rows.push(changed)
  }
  save()
  const { open, asks, quota } = applyPlan(task)
  const isDue = (row: DeviceRow) => {
    const { owed } = row.upgrade
    return (asks && owed === 'asked') || (open && owed !== 'no' && isWaveOpen(run, waveOf(task, row)))
  }
  const due = rows.filter(isDue)
  const again = due.filter(({ upgrade }) => isTold(upgrade)).slice(0, resendsNow(task, open, quota))
  const first = due.filter(({ upgrade }) => !isTold(upgrade))
  const toSend = [...first, ...again].slice(0, quota)
  await sendTo(
    task,
    toSend.map(({ deviceId }) => deviceId),
  )
  const isBlocked = isKnownBlocked(task)
  /** It lacks only a bridge with credit, or its share of the rate, or its slot was given up just now. */
  const isNext = (row: DeviceRow) => !isBlocked && row.upgrade.heldUntil === null && isDue(row)
  return rows
    .map(({ deviceId }) => storage.readRow(deviceId)!)
    .filter((row) => row.upgrade.offer !== null || isNext(row))
    .map(({ deviceId }) => deviceId)
}
