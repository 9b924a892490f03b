import { currentPlan } from '../effects/apply-plan.ts'
import { changeDevice, waveOf, writeDevice } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { isWaveOpen } from '../rules/counts.ts'
import type { DeviceRow } from '../storage/device-row.ts'
import { sendTo } from './send-notices.ts'
import { foundFrozen } from './turn.ts'

/**
 * Devices ask over MQTT what is due (PROTOCOL.md, 3): the notice goes out where there is one, as far as the rate
 * goes; the others stay owed. Answers the devices that need no "nothing is due".
 */
export async function askForNotices(
  task: TaskContext,
  asks: { deviceId: string; key: string }[],
  now: () => number,
): Promise<string[]> {
  const { run, storage } = task
  const rows: DeviceRow[] = []
  for (const { deviceId, key } of asks) {
    const row = storage.readRow(deviceId)
    if (!row) continue
    const event = { type: 'asked', viaBridge: true } as const
    const changed = changeDevice(task, row, event, { kind: 'asked', detail: 'MQTT', key }, now())
    if (changed !== row) writeDevice(task, changed)
    rows.push(changed)
  }
  storage.writeRun(run)
  const { open, asks: mayAsk, quota } = currentPlan(task, now())
  const isDue = (row: DeviceRow) => {
    const { owed } = row.upgrade
    return (mayAsk && owed === 'asked') || (open && owed !== 'no' && isWaveOpen(run, waveOf(task, row)))
  }
  const toSend = rows.filter(isDue).slice(0, quota)
  await sendTo(
    task,
    toSend.map(({ deviceId }) => deviceId),
    now,
  )
  const frozen = foundFrozen(task, now())
  /** It lacks only a bridge with credit, or its share of the rate, or its slot was given up just now. */
  const isNext = (row: DeviceRow) => !frozen && row.upgrade.heldUntil === null && isDue(row)
  return rows
    .map(({ deviceId }) => storage.readRow(deviceId)!)
    .filter((row) => row.upgrade.offer !== null || isNext(row))
    .map(({ deviceId }) => deviceId)
}
