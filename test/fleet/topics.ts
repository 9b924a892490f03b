import type { Behaviour } from './behaviour.ts'

/** Where a device speaks and listens (PROTOCOL.md, 2). */
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
