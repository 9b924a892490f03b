/** `waiting`: no upgrade yet; the last four are ends of an upgrade. */
export type DeviceState = 'waiting' | 'working' | 'success' | 'failure' | 'rolledBack' | 'silent'

/** A device's own view of its upgrades, to compare with the server's report. */
export interface DeviceTruth {
  state: DeviceState
  /** The last acknowledged step of the present or last upgrade; −1 to −4 is a failure. */
  step: number | null
  detail: string | null
  /** The version that runs. */
  version: string
  /** Its security counter. */
  counter: number
  /** The version of the present or last upgrade. */
  targetVersion: string | null
  /** How many upgrades the device has begun. */
  attempts: number
  /** How many notices arrived, and how many of them began no upgrade. */
  notices: number
  repeats: number
  /** How many downloads were resumed after a cut. */
  resumes: number
}

export const newTruth = (version: string): DeviceTruth => ({
  state: 'waiting',
  step: null,
  detail: null,
  version,
  counter: 0,
  targetVersion: null,
  attempts: 0,
  notices: 0,
  repeats: 0,
  resumes: 0,
})

export const hasEnded = (state: DeviceState) => state !== 'waiting' && state !== 'working'

/** How many devices are in each state. */
export function tally(truths: Iterable<DeviceTruth>): Record<DeviceState, number> {
  const counts = { waiting: 0, working: 0, success: 0, failure: 0, rolledBack: 0, silent: 0 }
  for (const { state } of truths) counts[state]++
  return counts
}

/** The fields of `GET /api/v1/tasks/{id}/devices` that are compared. */
export interface ReportedDevice {
  number: string
  status: string
  step: number | null
  rolledBack: boolean
}

/** True if the report fits the device's own view, under the default policy `confirm: "progress"`. */
export function agrees(truth: DeviceTruth, reported: ReportedDevice): boolean {
  switch (truth.state) {
    case 'success':
      return reported.status === 'success' && !reported.rolledBack
    case 'rolledBack':
      return reported.status === 'success' && reported.rolledBack
    case 'failure':
      return reported.status === 'failure' && reported.step === truth.step
    case 'silent':
      // Upgrading until the device timeout, which most runs do not wait for.
      return reported.status === 'upgrading' || reported.status === 'failure'
    case 'working':
      return reported.status === 'pushed' || reported.status === 'upgrading'
    case 'waiting':
      return ['pending', 'pushed', 'cancelled'].includes(reported.status)
  }
}
