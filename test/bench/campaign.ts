import { setTimeout as sleep } from 'node:timers/promises'
import { type BenchFleet, rate, startTask } from './fleet.ts'
import type { Local } from './local.ts'
import type { Player, Said } from './player.ts'

/** The progress that a device reports on its way to Success. */
const STEPS = [5, 20, 40, 60, 80, 100]

export interface Campaign {
  taskId: string
  /** Seconds from the task's creation to the last notice, to the last message taken, and to all outcomes in D1. */
  seconds: { notices: number; messages: number; finished: number }
  messagesPerSecond: number
}

const POLL_MS = 250

/** Plays a whole task in which every device sends six progress messages and succeeds. */
export async function playCampaign(
  local: Local,
  player: Player,
  fleet: BenchFleet,
  { batchSize, inFlight }: { batchSize: number; inFlight: number },
): Promise<Campaign> {
  const before = player.notices.size
  const since = performance.now()
  const seconds = () => (performance.now() - since) / 1000
  const task = await startTask(local, fleet)
  await player.untilNoticed(before + fleet.devices.length)
  await player.settled()
  const notices = seconds()
  const messagesSince = performance.now()
  for (const step of STEPS) await player.say(says(fleet, step), batchSize, inFlight)
  const messages = seconds()
  const messagesPerSecond = rate(STEPS.length * fleet.devices.length, messagesSince)
  while ((await local.api.task(task.id)).status !== 'finished') await sleep(POLL_MS)
  return { taskId: task.id, messagesPerSecond, seconds: { notices, messages, finished: seconds() } }
}

export const MESSAGES_EACH = STEPS.length

function* says({ devices }: BenchFleet, step: number): Generator<Said> {
  const params = { step: String(step), desc: `Upgrade Progress ${step}%`, module: 'default' }
  for (const { accessToken } of devices) {
    yield { username: accessToken, topic: 'progress', body: { id: '1', params } }
  }
}

/** A version report of each device. */
export function* reports({ devices }: BenchFleet, version: string): Generator<Said> {
  for (const { accessToken } of devices) {
    yield { username: accessToken, topic: 'inform', body: { id: '2', params: { version } } }
  }
}
