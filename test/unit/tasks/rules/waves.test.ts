import fc from 'fast-check'
import { expect, it } from 'vitest'
import {
  cutWaves,
  LAST_PLACE,
  placeOf,
  waveOfJoiner,
  waveOfPlace,
  waveSizes,
} from '../../../../src/tasks/rules/waves.ts'

const places = (task: string, devices: number) =>
  Uint32Array.from({ length: devices }, (_, index) => placeOf(task, `dev_${index}`))

const percents = fc
  .uniqueArray(fc.integer({ min: 1, max: 99_999 }), { maxLength: 6 })
  .map((list) => [...list.sort((a, b) => a - b).map((thousandths) => thousandths / 1000), 100])

it('wave sizes follow the cumulative percents', () => {
  expect(waveSizes([1, 20, 100], 1000)).toEqual([10, 190, 800])
  expect(waveSizes([0.1, 33.3, 100], 1000)).toEqual([1, 332, 667])
  expect(waveSizes([28, 56, 100], 25)).toEqual([7, 7, 11])
})

it('the first wave has at least one device; a later one may be empty', () => {
  expect(waveSizes([1, 2, 100], 3)).toEqual([1, 0, 2])
  expect(waveSizes([1, 50, 100], 1)).toEqual([1, 0, 0])
  expect(waveSizes([1, 100], 0)).toEqual([0, 0])
})

it('each wave gets exactly as many devices as its size', () => {
  fc.assert(
    fc.property(percents, fc.integer({ min: 0, max: 300 }), fc.string(), (list, devices, task) => {
      const all = places(task, devices)
      // Devices with the same place fall into the same wave; the sizes are exact only if all places differ.
      fc.pre(new Set(all).size === devices)
      const cuts = cutWaves(list, all)
      const sizes = list.map(() => 0)
      for (const place of all) sizes[waveOfPlace(cuts, place)]!++
      expect(sizes).toEqual(waveSizes(list, devices))
      expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(devices)
      if (devices > 0) expect(sizes[0]).toBeGreaterThan(0)
      expect(cuts.at(-1)).toBe(LAST_PLACE)
    }),
  )
})

it('a wave is a fair sample: it has its share of every batch of devices, in whatever order their ids run', () => {
  const cuts = cutWaves([10, 100], places('tsk_1', 100_000))
  for (let batch = 0; batch < 10; batch++) {
    const inWave = Array.from({ length: 10_000 }, (_, index) =>
      waveOfPlace(cuts, placeOf('tsk_1', `dev_${batch * 10_000 + index}`)),
    ).filter((wave) => wave === 0).length
    // Five standard deviations of a fair draw of 10,000 at 10 %.
    expect(Math.abs(inWave - 1000)).toBeLessThan(5 * Math.sqrt(10_000 * 0.1 * 0.9))
  }
})

it('a device always has the same place in a task, and another one in another task', () => {
  expect(placeOf('tsk_1', 'dev_1')).toBe(placeOf('tsk_1', 'dev_1'))
  const first = (task: string) =>
    [...places(task, 1000)].map((place, index) => ({ place, index })).sort((a, b) => a.place - b.place)[0]!
      .index
  expect(first('tsk_1')).not.toBe(first('tsk_2'))
})

it('devices that join later are spread over the waves by their shares', () => {
  const waves = [...places('tsk_1', 100_000)].map((place) => waveOfJoiner([1, 20, 100], place))
  const share = (wave: number) => waves.filter((each) => each === wave).length / 1000
  expect(share(0)).toBeCloseTo(1, 0)
  expect(share(1)).toBeCloseTo(19, 0)
  expect(share(2)).toBeCloseTo(80, 0)
  expect(waveOfJoiner([1, 20, 100], LAST_PLACE)).toBe(2)
  expect(waveOfJoiner([1, 20, 100], 0)).toBe(0)
})
