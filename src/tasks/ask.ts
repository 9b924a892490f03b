import { changeDevice, writeDevice } from './change-device.ts'
import { planRollout } from './rollout.ts'
import { sendTo } from './send-notices.ts'
import type { TaskContext } from './task-context.ts'
import type { DeviceRow } from './task-storage.ts'
import { foundFrozen } from './turn.ts'
import type { Upgrade } from './upgrade.ts'

/**
 * Devices ask over MQTT what is due (PROTOCOL.md, 3): the notice goes out where there is one. Answers the devices
 * that need no "nothing is due".
 */
export async function askForNotices(
  task: TaskContext,
  asks: { deviceId: string; key: string }[],
  now: () => number,
): Promise<string[]> {
  const rows: DeviceRow[] = []
  for (const { deviceId, key } of asks) {
    const row = task.storage.readRow(deviceId)
    if (!row) continue
    const event = { type: 'asked', viaBridge: true } as const
    const changed = changeDevice(task, row, event, { kind: 'asked', detail: 'MQTT', key }, now())
    if (changed !== row) writeDevice(task, changed)
    rows.push(changed)
  }
  task.storage.writeRun(task.run)
  const { open, asks: mayAsk } = planRollout(task.spec, task.run.status, now())
  const isDue = ({ owed }: Upgrade) => (mayAsk && owed === 'asked') || (open && owed !== 'no')
  const toSend = rows.filter(({ upgrade }) => isDue(upgrade))
  if (toSend.length > 0) await sendTo(task, toSend, now)
  const frozen = foundFrozen(task, now())
  /** It lacks only a bridge with credit, or its slot was given up just now. */
  const isNext = (upgrade: Upgrade) => !frozen && upgrade.heldUntil === null && isDue(upgrade)
  return rows
    .map(({ deviceId }) => task.storage.readRow(deviceId)!)
    .filter(({ upgrade }) => upgrade.offer !== null || isNext(upgrade))
    .map(({ deviceId }) => deviceId)
}
