import { setTimeout as sleep } from 'node:timers/promises'
import type { Player } from './player.ts'
import type { SoakSystem } from './system.ts'

interface DeviceState {
  status: string
  step: number | null
  events: { kind: string; detail: string | null }[]
}

export interface Fault {
  player: Player
  text: string
}

const LOOK_EVERY_MS = 500
/** Waiting ends if for so long the Worker took no message and no further device came to the expected state. */
const STUCK_MS = 45_000
const SETTLE_WITHIN_MS = 900_000

/** Waits until every device has the expected state in the task. Returns the devices that never reach it. */
export async function settle({ api, tap }: SoakSystem, taskId: string, players: Player[]): Promise<Fault[]> {
  const ids = await deviceIds(api, taskId)
  let faults = players.map((player) => ({ player, text: 'was not looked at' }))
  const started = Date.now()
  let seen = { taken: -1, open: -1, at: started }
  while (faults.length > 0) {
    const looked: Fault[] = []
    for (const { player } of faults) {
      const path = `/api/v1/tasks/${taskId}/devices/${ids.get(player.username)}`
      const text = faultOf(player, await api.call<DeviceState>('GET', path))
      if (text !== null) looked.push({ player, text })
    }
    faults = looked
    const now = Date.now()
    if (tap.count !== seen.taken || faults.length !== seen.open) {
      seen = { taken: tap.count, open: faults.length, at: now }
    }
    if (now - seen.at > STUCK_MS || now - started > SETTLE_WITHIN_MS) break
    if (faults.length > 0) await sleep(LOOK_EVERY_MS)
  }
  return faults
}

async function deviceIds(api: SoakSystem['api'], taskId: string): Promise<Map<string, string>> {
  const ids = new Map<string, string>()
  for await (const { number, deviceId } of api.taskDevices(taskId)) ids.set(number, deviceId)
  return ids
}

/** Null if state, step and the end of the history are what the device said last. */
function faultOf({ script }: Player, { status, step, events }: DeviceState): string | null {
  const { ends, messages } = script
  if (status !== ends.status) return `is ${status}, not ${ends.status}`
  if (step !== ends.step) return `is at step ${step}, not ${ends.step}`
  const heard = events
    .filter(({ kind }) => kind === 'progress' || kind === 'version')
    .map(({ detail }) => detail)
  const said = messages.slice(-3).map(({ heardAs }) => heardAs)
  // A message that came twice may be in the history twice.
  const distinct = heard.filter((detail, at) => detail !== heard[at - 1]).slice(-said.length)
  return distinct.join() === said.join() ? null : `ends with ${distinct.join(', ')}, not ${said.join(', ')}`
}
