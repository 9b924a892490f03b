import type { Reason } from '../../reasons/reason.ts'
import { NO_COUNTS, type TaskCounts, type TaskSpec, type TaskStatus } from './task.ts'
import { LAST_PLACE } from './waves.ts'

/** What became of a wave's devices (src/protocol/README.md#what-gates-count). */
export interface WaveRun {
  /** Its devices, without those that were on the target version already. */
  devices: number
  /** Null while it is closed. */
  openedAt: number | null
  /** Told while connected, or seen since: only these count for the next wave and the halt rule. */
  reached: number
  succeeded: number
  failed: number
  /** Their notice is owed or on its way: until it arrives, the wave's result is unknown. */
  underWay: number
  /** Since when it meets what opens the next wave. */
  goodSince: number | null
}

/** How far the task has come; one row, written together with the devices that it counts. */
export interface TaskRun {
  status: TaskStatus
  /** Why it is paused. */
  pausedBecause: Reason | null
  startedAt: number | null
  finishedAt: number | null
  counts: TaskCounts
  /** The next page of devices to take in; null when all are. */
  enrolment: { cursor: string } | null
  /** The last place of each wave; null until the devices are spread over them. */
  cuts: number[] | null
  waves: WaveRun[]
  /** Devices up to here had their first turn, as far as their wave is open; null when all had. */
  sendCursor: string | null
  /** The last device of a bulk retry that was too large for one call; the next call goes on after it. */
  retryAfter?: string | null
  /** The rate is used up to this time (ms). */
  spentUpTo: number
  /** Reached devices that settled, and failed, since an operator last accepted the failures so far. */
  halt: { epoch: number; settled: number; failed: number }
  /** The task paused itself: resuming accepts the failures so far. */
  halted: boolean
  /** Devices that reported another version after 100 %. */
  rolledBack: number
  /** Failures that wait for their automatic retry. */
  retrying: number
  /** The task was cancelled or reached its end: devices up to here were ended. Null while it goes on. */
  endCursor: string | null
  /** All devices that the end concerns were ended. */
  ended: boolean
  /** No notice before this time: no credit, no bridge, or the product is frozen. */
  blockedUntil: number
  blockedBy: Reason | null
  /** Its links are the Worker's, which stop while the task pauses. */
  linksStop: boolean
  /** Packages that are sent to nobody any more. */
  recalled: string[]
  /** For a dynamic task: when it looks next for devices that joined, and after which id. */
  joining: { at: number; after: string; before: string } | null
  /** The counts over time: what was last written down, when, and how many minutes lie between two. */
  sampled: string
  sampledAt: number
  sampleMinutes: number
  /** Of what happened, for webhooks. */
  eventNumber: number
  /** They could not be handed over: not before this time again. */
  announceAfter: number
  /** What of the task's row in D1 is old. */
  unwritten: 'no' | 'counts' | 'status'
  writtenAt: number
}

/** A task that was just created. It runs at once if its start has come. */
export const newRun = ({ startAt, createdAt, policy }: TaskSpec): TaskRun => ({
  status: startAt <= createdAt ? 'running' : 'scheduled',
  pausedBecause: null,
  startedAt: startAt <= createdAt ? createdAt : null,
  finishedAt: null,
  counts: { ...NO_COUNTS },
  enrolment: { cursor: '' },
  cuts: policy.waves ? null : [LAST_PLACE],
  waves: wavePercents(policy).map(newWave),
  sendCursor: '',
  spentUpTo: 0,
  halt: { epoch: 0, settled: 0, failed: 0 },
  halted: false,
  rolledBack: 0,
  retrying: 0,
  endCursor: null,
  ended: false,
  blockedUntil: 0,
  blockedBy: null,
  linksStop: false,
  recalled: [],
  joining: null,
  sampled: '',
  sampledAt: 0,
  sampleMinutes: 1,
  eventNumber: 0,
  announceAfter: 0,
  unwritten: 'status',
  writtenAt: 0,
})

const newWave = (): WaveRun => ({
  devices: 0,
  openedAt: null,
  reached: 0,
  succeeded: 0,
  failed: 0,
  underWay: 0,
  goodSince: null,
})

/** A task without waves is one wave. */
export const wavePercents = ({ waves }: TaskSpec['policy']) => waves?.map(({ percent }) => percent) ?? [100]

/** The wave that was opened last; −1 before the first. */
export const openWave = ({ waves }: TaskRun) => waves.findLastIndex(({ openedAt }) => openedAt !== null)
