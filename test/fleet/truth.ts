/** `waiting`: nothing is being upgraded; the four last ones are ends. */
export type DeviceState = 'waiting' | 'working' | 'success' | 'failure' | 'rolledBack' | 'silent'

/** What a device itself knows of its upgrades, to be compared with what the server reports. */
export interface DeviceTruth {
  state: DeviceState
  /** Of the present or last upgrade: the last step that was acknowledged; −1 … −4 a failure. */
  step: number | null
  detail: string | null
  /** The version that runs. */
  version: string
  /** The version of the present or last upgrade. */
  targetVersion: string | null
  /** Upgrades begun. */
  attempts: number
  /** Upgrade notices that arrived, and how many of them told nothing new. */
  notices: number
  repeats: number
  /** Downloads resumed after a cut. */
  resumes: number
}

export const newTruth = (version: string): DeviceTruth => ({
  state: 'waiting',
  step: null,
  detail: null,
  version,
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

/** What of the server's report can be compared (API.md, `GET /api/v1/tasks/{id}/devices`). */
export interface ReportedDevice {
  number: string
  status: string
  step: number | null
  rolledBack: boolean
}

/** Do device and server agree? By the default policy, `confirm: "progress"`. */
export function agrees(truth: DeviceTruth, reported: ReportedDevice): boolean {
  switch (truth.state) {
    case 'success':
      return reported.status === 'success' && !reported.rolledBack
    case 'rolledBack':
      return reported.status === 'success' && reported.rolledBack
    case 'failure':
      return reported.status === 'failure' && reported.step === truth.step
    case 'silent':
      // Until the device timeout, which is longer than most look.
      return reported.status === 'upgrading' || reported.status === 'failure'
    case 'working':
      return reported.status === 'pushed' || reported.status === 'upgrading'
    case 'waiting':
      return ['pending', 'pushed', 'cancelled'].includes(reported.status)
  }
}
