import { expect } from 'vitest'
import type { NoticeFrame } from '../../src/protocol/bridge.ts'
import { type Lab, type LabDevice, type LabTask, makeLab, progresses, reports } from './lab.ts'
import { type Item, sent, taken } from './lab-bridge.ts'
import { moveClock, until, untilIdle } from './lab-clock.ts'

const BATCH = 500
const CREDIT = 1000

/** A lab of many devices, with calls for all of them at once. */
export interface RolloutFleet extends Lab {
  /** Takes the notices since the last call, posts this result for each, and returns their devices. */
  takeNotices: (result?: 'taken' | 'offline') => Promise<LabDevice[]>
  /** Posts one item for each of the devices. */
  all: (devices: LabDevice[], say: (device: LabDevice) => Item) => Promise<void>
  /** Says 100 % of each of the devices, and then that it runs the version: only then has it done well. */
  succeed: (devices: LabDevice[], version?: string) => Promise<void>
  /** Moves the clock and waits until everything that is due then has happened. */
  wait: (ms: number) => Promise<void>
  postAll: (items: Item[]) => Promise<void>
}

export async function makeRolloutFleet(
  count = 1000,
  product: Record<string, unknown> = {},
): Promise<RolloutFleet> {
  const lab = await makeLab(count, product, CREDIT)
  const { bridge } = lab
  const byId = new Map(lab.devices.map((device) => [device.id, device]))
  // From here on the clock is moved, so that `until` rings the alarms.
  moveClock(1)
  const postAll = async (items: Item[]) => {
    for (let at = 0; at < items.length; at += BATCH) await bridge.post(items.slice(at, at + BATCH))
  }
  const settle = async () => {
    for (let before = -1; before !== bridge.frames.length; ) {
      before = bridge.frames.length
      await untilIdle()
      await bridge.flushed()
    }
  }
  return {
    ...lab,
    postAll,
    takeNotices: async (result = 'taken') => {
      const all: NoticeFrame[] = []
      await settle()
      while (bridge.frames.length > 0) {
        const frames = bridge.frames.splice(0)
        all.push(...frames)
        await postAll(frames.flatMap((frame) => [sent(frame), taken(frame, result)]))
        bridge.grant(frames.length)
        await settle()
      }
      return all.map((frame) => byId.get(frame.notice.device)!)
    },
    all: (devices, say) => postAll(devices.map(say)),
    succeed: async (devices, version = 'v2') => {
      await postAll(devices.flatMap((device) => [progresses(device, 100), reports(device, version)]))
    },
    wait: async (ms) => {
      await bridge.idleFor(ms)
      await settle()
    },
  }
}

/** The task's counts, without those that are 0. */
export async function countsOf(task: LabTask): Promise<Record<string, number>> {
  const { counts } = await task.get()
  return Object.fromEntries(Object.entries(counts as Record<string, number>).filter(([, count]) => count > 0))
}

/** Waits until the task has this status, and rings its alarm when that is due. */
export const becomes = (task: LabTask, status: string) =>
  until(`the task is ${status}`, async () => (await task.get()).status === status)

export const expectNone = (devices: LabDevice[]) => expect(devices.map(({ number }) => number)).toEqual([])
