import { createRandom, shuffled } from './random.ts'
import type { Trust } from './verify.ts'

/** How a fleet behaves. Shares are parts of the fleet from 0 to 1, times are in ms. */
export interface Behaviour {
  /** The version that devices run before any upgrade. */
  version: string
  /** `default` is the whole firmware. */
  module: string
  /** `infrom` is the first family with the misspelling of the field (src/protocol/README.md#topics). */
  topics: 'device' | 'devices' | 'infrom'
  /** True: the broker forgets a device's subscriptions when its connection ends. */
  cleanSession: boolean

  // Fates; a device has at most one.
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
  /** Says nothing more from half of the upgrade on. */
  silent: number
  /** The number of upgrades that end in the fate; later ones succeed. */
  fateTimes: number

  // Incidents; a device may have several, also beside a fate.
  /** The download breaks off half-way, once; the device resumes it. */
  cutDownload: number
  /** Loses its connection during the download, once, for `offlineMs`. */
  goOffline: number
  offlineMs: number
  /** Connects for the first time after `lateMs`. */
  startLate: number
  lateMs: number

  /** Pause before each progress message. */
  stepMs: number
  /** Number of progress messages in an upgrade: 10 means 10, 20 … 100 %. */
  steps: number
  /** A device disconnects for good once it has succeeded; it gets no later notice. */
  leaveWhenDone: boolean
  /** False: devices fetch one byte to check the link, and take the digest for right. */
  download: boolean
  /** Download speed; 0 is unlimited. */
  bytesPerSecond: number
  /** Bytes for each request of a download; 0 asks for the whole file. */
  chunkBytes: number
  /** By which devices know their maker; they install nothing else. Null: they install what fits its digest. */
  trust: Trust | null
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
  trust: null,
}

/** How a device's upgrade ends; a number is the failure that it reports. */
export type Fate = 'success' | 'rollBack' | 'silent' | -1 | -2 | -3 | -4

/** What one device does, decided before it starts. */
export interface DevicePlan {
  fate: Fate
  cutDownload: boolean
  /** 0: it stays connected. */
  offlineMs: number
  /** 0: it connects at once. */
  lateMs: number
}

/**
 * Returns the plan of each device, the same for the same seed. A share becomes a rounded number of devices, which are
 * drawn at random. Throws a RangeError for a share outside 0 to 1, or if the fates come to more than 100 %.
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
