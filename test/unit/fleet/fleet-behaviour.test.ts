import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DEFAULT_BEHAVIOUR, type DevicePlan, planFleet } from '../../fleet/behaviour.ts'
import { makeFirmware } from '../../fleet/firmware.ts'
import { identitiesOf, toCsv } from '../../fleet/identities.ts'
import { readNotice } from '../../fleet/notice.ts'
import { createRandom, shuffled } from '../../fleet/random.ts'
import { createStats } from '../../fleet/stats.ts'
import { topicsOf } from '../../fleet/topics.ts'
import { agrees, newTruth, type ReportedDevice, tally } from '../../fleet/truth.ts'

const plan = (count: number, shares: Partial<typeof DEFAULT_BEHAVIOUR>, seed = 1) =>
  planFleet(count, { ...DEFAULT_BEHAVIOUR, ...shares }, seed)
const having = (plans: DevicePlan[], key: keyof DevicePlan, value: unknown) =>
  plans.filter((one) => one[key] === value).length

describe('the plan of a fleet', () => {
  it('a fleet plan has no trouble by default', () => {
    expect(new Set(plan(50, {}).map((one) => JSON.stringify(one)))).toEqual(
      new Set([JSON.stringify({ fate: 'success', cutDownload: false, offlineMs: 0, lateMs: 0 })]),
    )
  })

  it('a fleet plan turns shares into exact numbers of devices', () => {
    const plans = plan(1000, {
      failUpgrade: 0.01,
      failDownload: 0.02,
      failVerify: 0.03,
      failWrite: 0.04,
      rollBack: 0.05,
      silent: 0.06,
      cutDownload: 0.5,
      goOffline: 0.25,
      startLate: 0.1,
    })
    const fates = ([-1, -2, -3, -4, 'rollBack', 'silent'] as const).map((fate) => having(plans, 'fate', fate))
    expect(fates).toEqual([10, 20, 30, 40, 50, 60])
    expect(having(plans, 'cutDownload', true)).toBe(500)
    expect(having(plans, 'offlineMs', DEFAULT_BEHAVIOUR.offlineMs)).toBe(250)
    expect(having(plans, 'lateMs', DEFAULT_BEHAVIOUR.lateMs)).toBe(100)
  })

  it('a fleet plan is the same for the same seed and differs for another', () => {
    const shares = { failVerify: 0.3, startLate: 0.3 }
    expect(plan(100, shares, 7)).toEqual(plan(100, shares, 7))
    expect(plan(100, shares, 7)).not.toEqual(plan(100, shares, 8))
  })

  it('a fleet plan refuses shares outside 0 to 1 and fates of more than 100 %', () => {
    for (const share of [-0.1, 1.1, Number.NaN]) {
      expect(() => plan(10, { cutDownload: share })).toThrow(RangeError)
    }
    expect(() => plan(10, { failVerify: 0.6, failWrite: 0.6 })).toThrow(RangeError)
  })
})

it('shuffling keeps every number', () => {
  fc.assert(
    fc.property(fc.nat(200), fc.nat(), (count, seed) => {
      const order = shuffled(count, createRandom(seed))
      expect(order.toSorted((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, index) => index))
    }),
  )
})

it('the random generator gives numbers from 0 up to 1, the same for the same seed', () => {
  const draw = (seed: number) => Array.from({ length: 1000 }, createRandom(seed))
  expect(draw(3)).toEqual(draw(3))
  expect(draw(3)).not.toEqual(draw(4))
  expect(draw(3).every((number) => number >= 0 && number < 1)).toBe(true)
})

it('the firmware is the same for the same version and size', () => {
  const sum = (version: string, size: number) =>
    createHash('sha256').update(makeFirmware(version, size)).digest('hex')
  expect(makeFirmware('v1.1.0', 1001).byteLength).toBe(1001)
  expect(sum('v1.1.0', 1001)).toBe(sum('v1.1.0', 1001))
  expect(sum('v1.1.0', 1001)).not.toBe(sum('v1.1.1', 1001))
  expect(() => makeFirmware('v1.1.0', 63)).toThrow(RangeError)
})

it('each simulated device has a number and a token of its own that can be topics', () => {
  const devices = identitiesOf(500, 'prd_1', 'a key')
  expect(new Set(devices.map(({ number }) => number)).size).toBe(500)
  expect(new Set(devices.map(({ accessToken }) => accessToken)).size).toBe(500)
  for (const { number, accessToken } of devices) {
    expect(`${number} ${accessToken}`).toMatch(/^[A-Za-z0-9_-]{1,64} [A-Za-z0-9_-]{1,64}$/)
  }
  expect(identitiesOf(500, 'prd_1', 'a key')).toEqual(devices)
  expect(identitiesOf(1, 'prd_2', 'a key')[0]!.accessToken).not.toBe(devices[0]!.accessToken)
  expect(toCsv(devices).split('\n').slice(0, 2)).toEqual([
    'number,access_token',
    `${devices[0]!.number},${devices[0]!.accessToken}`,
  ])
})

it('a device uses the topics of its family', () => {
  const identity = { number: 'n-1', accessToken: 'token' }
  const [inform, progress] = ['ota/device/inform', 'ota/device/progress']
  expect(topicsOf('device', identity)).toEqual({ inform, progress, downlink: `${inform}/token` })
  expect(topicsOf('infrom', identity)).toEqual({
    inform: 'ota/device/infrom',
    progress,
    downlink: `${inform}/token`,
  })
  expect(topicsOf('devices', identity)).toEqual({
    inform: 'ota/devices/inform',
    progress: 'ota/devices/progress',
    downlink: 'ota/devices/inform/n-1',
  })
})

describe('what a device reads', () => {
  const params = {
    version: 'v1.1',
    size: 432945,
    url: 'https://example.com/f',
    signMethod: 'SHA256',
    sign: 'a'.repeat(64),
    module: 'MCU',
    extData: { key1: 'value1' },
  }
  const notice = { id: '1764000001', code: 200, params }
  const read = (message: unknown) => readNotice(Buffer.from(JSON.stringify(message)))

  it('a simulated device reads a notice exactly as the protocol has it', () => {
    expect(read(notice)).toEqual(notice)
    expect(read({ ...notice, params: { ...params, isDiff: 1 } })).toBeDefined()
  })

  it('a simulated device rejects a notice with a wrong type or an extra field', () => {
    expect(read({ ...notice, id: 1764000001 })).toBeUndefined()
    expect(read({ ...notice, code: '200' })).toBeUndefined()
    expect(read({ ...notice, params: { ...params, size: '432945' } })).toBeUndefined()
    expect(read({ ...notice, params: { ...params, sign: 'A'.repeat(64) } })).toBeUndefined()
    expect(read({ ...notice, params: { ...params, more: 1 } })).toBeUndefined()
    expect(readNotice(Buffer.from('not JSON'))).toBeUndefined()
  })

  it('a simulated device understands that nothing is due', () => {
    expect(read({ id: 'my own', code: 200, params: {} })).toBe('nothing due')
  })
})

describe('the truth of a fleet', () => {
  const reported = (status: string, step: number | null = null, rolledBack = false): ReportedDevice => ({
    number: '1',
    status,
    step,
    rolledBack,
  })

  it("a device's own view agrees only with a report of the same outcome", () => {
    const success = { ...newTruth('v1'), state: 'success' as const, step: 100 }
    expect(agrees(success, reported('success', 100))).toBe(true)
    expect(agrees(success, reported('success', 100, true))).toBe(false)
    expect(agrees(success, reported('upgrading', 100))).toBe(false)

    const failure = { ...newTruth('v1'), state: 'failure' as const, step: -3 }
    expect(agrees(failure, reported('failure', -3))).toBe(true)
    expect(agrees(failure, reported('failure', -2))).toBe(false)
    expect(agrees(failure, reported('success', 100))).toBe(false)

    const rolledBack = { ...newTruth('v1'), state: 'rolledBack' as const, step: 100 }
    expect(agrees(rolledBack, reported('success', 100, true))).toBe(true)
    expect(agrees(rolledBack, reported('success', 100))).toBe(false)
  })

  it('devices are counted by their state', () => {
    const success = { ...newTruth('v1'), state: 'success' as const }
    expect(tally([newTruth('v1'), success, success])).toEqual({
      waiting: 1,
      working: 0,
      success: 2,
      failure: 0,
      rolledBack: 0,
      silent: 0,
    })
  })

  it('messages per second are counted from the first message to the last', () => {
    let now = 1_000
    const stats = createStats(() => now)
    expect(stats.read().messagesPerSecond).toBe(0)
    stats.tick()
    stats.counts.acknowledged += 30
    stats.counts.notices += 10
    now = 3_000
    stats.tick()
    now = 60_000
    expect(stats.read().messagesPerSecond).toBe(20)
  })
})
