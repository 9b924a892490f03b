/** Which devices a wave takes: a fair sample that stays the same. Pure. */

import { mix32 } from '../../common/hash.ts'

/** Places of devices are spread over 0 to this, inclusive. */
export const LAST_PLACE = 0xffff_ffff

/** A device's place in a task's order: a stable hash of both (FNV-1a, mixed so that near ids lie far apart). */
export function placeOf(taskId: string, deviceId: string): number {
  let hash = 0x811c9dc5
  const text = `${taskId} ${deviceId}`
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  return mix32(hash)
}

/** How many of so many devices each wave has; the percents are cumulative, the first wave has at least one. */
export function waveSizes(percents: readonly number[], devices: number): number[] {
  // Rounding errors make no device.
  const ends = percents.map((percent) => Math.max(0, Math.ceil((percent * devices) / 100 - 1e-9)))
  return ends.map((end, wave) => end - (ends[wave - 1] ?? 0))
}

/** The last place of each wave, so that the waves have the sizes that `waveSizes` says. */
export function cutWaves(percents: readonly number[], places: Uint32Array): number[] {
  const sorted = places.toSorted()
  let end = 0
  return waveSizes(percents, sorted.length).map((size, wave) => {
    end += size
    return wave === percents.length - 1 ? LAST_PLACE : (sorted[end - 1] ?? share(percents[wave]!))
  })
}

/** The wave of a device that joins later. It depends on the device's place alone, not on the devices that are in. */
export const waveOfJoiner = (percents: readonly number[], place: number) =>
  waveOfPlace(percents.map(share), place)

export const waveOfPlace = (lastPlaces: readonly number[], place: number) =>
  lastPlaces.findIndex((last) => place <= last)

const share = (percent: number) => Math.floor((percent / 100) * LAST_PLACE)
