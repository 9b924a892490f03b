import type { Behaviour } from './behaviour.ts'

/** The topics of one device (src/protocol/README.md#topics). */
export interface DeviceTopics {
  inform: string
  progress: string
  downlink: string
}

export function topicsOf(
  family: Behaviour['topics'],
  { number, accessToken }: { number: string; accessToken: string },
): DeviceTopics {
  if (family === 'devices') {
    return {
      inform: 'ota/devices/inform',
      progress: 'ota/devices/progress',
      downlink: `ota/devices/inform/${number}`,
    }
  }
  return {
    inform: family === 'infrom' ? 'ota/device/infrom' : 'ota/device/inform',
    progress: 'ota/device/progress',
    downlink: `ota/device/inform/${accessToken}`,
  }
}
