import { createRandom, shuffled } from './random.ts'

/** How a fleet behaves. Shares are parts of the fleet from 0 to 1, times are in ms. */
export interface Behaviour {
  /** The version that runs before any upgrade. */
  version: string
  /** `default` is the whole firmware. */
  module: string
  /** `infrom`: the first family with its misspelling (PROTOCOL.md, 2). */
  topics: 'device' | 'devices' | 'infrom'
  /** Connections without a session of their own end with all their subscriptions. */
  cleanSession: boolean

  // A device has at most one of these fates.
  /** Reports −1. */
  failUpgrade: number
  /** Reports −2. */
  failDownload: number
  /** Reports −3. */
  failVerify: number
  /** Reports −4. */
  failWrite: number
  /** Reports 100 and then its old version. */
  rollBack: number
  /** Says nothing more after half of the way. */
  silent: number
  /** Upgrades that end in the fate, before the device succeeds. */
  fateTimes: number

  // These come on top.
  /** The download breaks off half-way, once, and is resumed. */
  cutDownload: number
  /** Loses its connection in the middle, once, for `offlineMs`. */
  goOffline: number
  offlineMs: number
  /** Turns up only after `lateMs`. */
  startLate: number
  lateMs: number

  /** Before each progress message. */
  stepMs: number
  /** Progress messages of an upgrade: 10 means 10, 20 … 100 %. */
  steps: number
  /** Disconnects for good once it has succeeded: no later notice finds it. */
  leaveWhenDone: boolean
  /** False: only looks whether the link is good. */
  download: boolean
  /** 0: as fast as it comes. */
  bytesPerSecond: number
  /** Bytes that one request asks for; 0: all of them. */
  chunkBytes: number
}

export const DEFAULT_BEHAVIOUR: Behaviour = {
  version: 'v1.0.0',
  module: 'default',
  topics: 'device',
  cleanSession: true,
  failUpgrade: 0,
  failDownload: 0,
  failVerify: 0,
  failWrite: 0,
  rollBack: 0,
  silent: 0,
  fateTimes: Number.POSITIVE_INFINITY,
  cutDownload: 0,
  goOffline: 0,
  offlineMs: 5_000,
  startLate: 0,
  lateMs: 5_000,
  stepMs: 0,
  steps: 10,
  leaveWhenDone: false,
  download: true,
  bytesPerSecond: 0,
  chunkBytes: 0,
}

/** A number is the failure that the device reports. */
export type Fate = 'success' | 'rollBack' | 'silent' | -1 | -2 | -3 | -4

/** What is decided about one device before it starts. */
export interface DevicePlan {
  fate: Fate
  cutDownload: boolean
  /** 0: stays connected. */
  offlineMs: number
  /** 0: is there from the start. */
  lateMs: number
}

/**
 * The plan of each device, the same for the same seed. A share becomes a number of devices, rounded; which ones is
 * drawn. Throws a RangeError for shares that are none, or fates that come to more than the whole.
 */
export function planFleet(count: number, behaviour: Behaviour, seed: number): DevicePlan[] {
  const fates: [Fate, number][] = [
    [-1, behaviour.failUpgrade],
    [-2, behaviour.failDownload],
    [-3, behaviour.failVerify],
    [-4, behaviour.failWrite],
    ['rollBack', behaviour.rollBack],
    ['silent', behaviour.silent],
  ]
  const random = createRandom(seed)
  const drawn = (share: number) => new Set(shuffled(count, random).slice(0, devicesOf(share, count)))
  const plans = Array.from(
    { length: count },
    (): DevicePlan => ({ fate: 'success', cutDownload: false, offlineMs: 0, lateMs: 0 }),
  )
  const order = shuffled(count, random)
  for (const [fate, share] of fates) {
    const chosen = order.splice(0, devicesOf(share, count))
    if (chosen.length < devicesOf(share, count)) throw new RangeError('The fates come to more than 100 %.')
    for (const index of chosen) plans[index]!.fate = fate
  }
  for (const index of drawn(behaviour.cutDownload)) plans[index]!.cutDownload = true
  for (const index of drawn(behaviour.goOffline)) plans[index]!.offlineMs = behaviour.offlineMs
  for (const index of drawn(behaviour.startLate)) plans[index]!.lateMs = behaviour.lateMs
  return plans
}

function devicesOf(share: number, count: number): number {
  if (!(share >= 0 && share <= 1)) throw new RangeError(`A share is from 0 to 1, not ${share}.`)
  return Math.round(share * count)
}
