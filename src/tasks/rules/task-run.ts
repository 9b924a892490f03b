import type { Reason } from '../../reasons/reason.ts'
import { NO_COUNTS, type TaskCounts, type TaskSpec, type TaskStatus } from './task.ts'
import { LAST_PLACE } from './waves.ts'

/** Of a wave's devices (src/protocol/README.md#what-gates-count). */
export interface WaveCounts {
  /** Told while connected, or seen since: only these count for the next wave and the halt rule. */
  reached: number
  /** Of the reached: done well, and seen since. */
  succeeded: number
  failed: number
  /** Of the reached: they said 100 % and were not seen since, whether they are gone already or not. */
  unseen: number
  /** Of the failed: silent and not connected. */
  gone: number
  /** Neither reached nor ended. */
  waiting: number
  /** Of these: their notice is owed or on its way. Until it arrives, the wave's result is unknown. */
  underWay: number
  /** The upgrade has begun on them. */
  upgrading: number
  /** Of the waiting: the bridge has the notice of their first attempt. A device that an operator retries takes no room. */
  offered: number
  /** Of the waiting: the wave has enough without them. */
  full: number
}

/** A wave and what became of its devices. */
export interface WaveRun extends WaveCounts {
  /** Its devices, without those that were on the target version already. */
  devices: number
  /** So many are to be reached before the next wave opens. Where they cannot be, it fills up with others. */
  size: number
  /** Null while it is closed. */
  openedAt: number | null
  /** Since when it meets what opens the next wave. */
  goodSince: number | null
  /** Since when it has devices that are not reached and that nothing is under way for. */
  lackingSince: number | null
  /** When it was last filled up. */
  filledAt: number | null
  /** When it was to be filled up, and none of the devices behind could be reached. */
  foundNobodyAt: number | null
}

/** A time in which the task's links did not work, in ms since 1970; `to` null: it goes on. */
export interface Stop {
  from: number
  to: number | null
}

/** The task is deleted, or goes into the archive. */
export interface Leaving {
  to: 'deleted' | 'archived'
  /** D1 and R2 no longer lead to its object. */
  isToldOf: boolean
  /** The devices up to here were taken out of D1. */
  cursor: string
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
  /** While first notices wait: so many more notices were sent again than for the first time. */
  resendLead: number
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
  /** When the first of the devices that wait to be told something began to wait. */
  heldFrom: number
  /** Its product is frozen, as far as the task knows. */
  frozen: boolean
  /** When its links did not work: the last times. */
  stops: Stop[]
  /** The device timeout was changed: the devices up to here were looked at. */
  timeoutCursor: string | null
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
  /** When a gate's figures last changed, a wave opened, or the task went on. */
  movedAt: number
  /** A webhook event said that nothing has moved since then. */
  saidStalled: boolean
  /** Since when its window is open; null while it is closed, or if it has none. */
  windowSince: number | null
  /** Since when no bridge took a notice that was to go out (ms); null if the last one was taken. */
  creditlessSince: number | null
  /** Since when bridges take notices and no broker answers for one (ms); null if one did. */
  unconfirmedSince: number | null
  /** How often in a row sending was put off for the same cause. */
  blockedTimes: number
  /** A device asked over HTTPS since the open wave was opened or filled up. */
  polled: boolean
  /** They could not be handed over: not before this time again. */
  announceAfter: number
  /** What of the task's row in D1 is old. */
  unwritten: 'no' | 'counts' | 'status'
  writtenAt: number
  /** Null while it stays: set once it has ended, and then for good. */
  leaving: Leaving | null
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
  resendLead: 0,
  halt: { epoch: 0, settled: 0, failed: 0 },
  halted: false,
  rolledBack: 0,
  retrying: 0,
  endCursor: null,
  ended: false,
  blockedUntil: 0,
  blockedBy: null,
  linksStop: false,
  heldFrom: 0,
  frozen: false,
  stops: [],
  timeoutCursor: null,
  recalled: [],
  joining: null,
  sampled: '',
  sampledAt: 0,
  sampleMinutes: 1,
  eventNumber: 0,
  movedAt: createdAt,
  saidStalled: false,
  windowSince: null,
  creditlessSince: null,
  unconfirmedSince: null,
  blockedTimes: 0,
  polled: false,
  announceAfter: 0,
  unwritten: 'status',
  writtenAt: 0,
  leaving: null,
})

export const newWave = (): WaveRun => ({
  devices: 0,
  size: 0,
  openedAt: null,
  reached: 0,
  succeeded: 0,
  failed: 0,
  unseen: 0,
  gone: 0,
  waiting: 0,
  underWay: 0,
  upgrading: 0,
  offered: 0,
  full: 0,
  goodSince: null,
  lackingSince: null,
  filledAt: null,
  foundNobodyAt: null,
})

/** A task without waves is one wave. */
export const wavePercents = ({ waves }: TaskSpec['policy']) => waves?.map(({ percent }) => percent) ?? [100]

/** The wave that was opened last; −1 before the first. */
export const openWave = ({ waves }: TaskRun) => waves.findLastIndex(({ openedAt }) => openedAt !== null)
