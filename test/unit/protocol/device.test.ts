import { expect, it } from 'vitest'
import {
  buildNotice,
  downlinkTopic,
  parseDownlinkTopic,
  readJson,
  readProgress,
  readRequest,
  readVersionReport,
  uplinkTopic,
} from '../../../src/protocol/device.ts'

const bytes = (text: string) => new TextEncoder().encode(text)

it.each([
  ['ota/device/inform', 'inform', 'device'],
  ['ota/device/infrom', 'inform', 'device'],
  ['ota/devices/inform', 'inform', 'devices'],
  ['ota/device/progress', 'progress', 'device'],
  ['ota/devices/progress', 'progress', 'devices'],
  ['ota/device/request', 'request', 'device'],
])('%s is an uplink topic', (topic, kind, family) => {
  expect(uplinkTopic(topic)).toEqual({ kind, family })
})

it('other topics are not uplink topics', () => {
  for (const topic of [
    '',
    'ota/device',
    'ota/device/inform/x',
    'ota/device/informs',
    'OTA/device/inform',
    '#',
  ]) {
    expect(uplinkTopic(topic)).toBeUndefined()
  }
})

it('a downlink topic is read with its name; wildcards are refused', () => {
  expect(parseDownlinkTopic('ota/device/inform/abc_-1')).toEqual({ family: 'device', name: 'abc_-1' })
  expect(parseDownlinkTopic('ota/devices/inform/n1')).toEqual({ family: 'devices', name: 'n1' })
  for (const topic of [
    'ota/device/inform/+',
    'ota/device/inform/#',
    'ota/device/inform/',
    'ota/device/inform/a/b',
    '#',
  ]) {
    expect(parseDownlinkTopic(topic)).toBeUndefined()
  }
})

it('a device of the later family is addressed by its number only if the number can be a topic', () => {
  const device = { accessToken: 'token', number: 'n1', numberIsTopic: true, topicFamily: null }
  expect(downlinkTopic(device)).toBe('ota/device/inform/token')
  expect(downlinkTopic({ ...device, topicFamily: 'devices' })).toBe('ota/devices/inform/n1')
  expect(downlinkTopic({ ...device, topicFamily: 'devices', numberIsTopic: false })).toBe(
    'ota/device/inform/token',
  )
})

it('a version report is read with or without a module, flat or wrapped, whatever other keys it has', () => {
  const report = (message: Record<string, unknown>) => readVersionReport(message)
  const whole = { ok: true, value: { version: 'v1.0.1', module: 'default' } }
  expect(report({ id: '147258369', params: { version: ' v1.0.1 ', module: 'default' } })).toEqual(whole)
  for (const module of [undefined, null, '', '  '])
    expect(report({ params: { version: 'v1.0.1', module } })).toEqual(whole)
  for (const id of [undefined, null, 7, 'x'.repeat(500), {}])
    expect(report({ id, params: { version: 'v1.0.1' } })).toEqual(whole)
  expect(report({ version: 'v1.0.1', other: true })).toEqual(whole)
  expect(report({ params: { version: 'v1', module: 'MCU' } })).toMatchObject({ value: { module: 'MCU' } })
  for (const version of [undefined, null, '', ' ', 'v'.repeat(65), {}, 1.5])
    expect(report({ params: { version } }).ok).toBe(false)
})

it.each([
  ['100', 100],
  [100, 100],
  [' 42 ', 42],
  ['99.9', 99],
  [0.9, 0],
  ['-1', -1],
  [-4, -4],
  [-0.5, 0],
])('the step %j is read as %j', (step, expected) => {
  expect(readProgress({ step })).toMatchObject({ ok: true, value: { step: expected } })
  expect(readProgress({ id: '1', params: { step } })).toMatchObject({ ok: true, value: { step: expected } })
})

it('a step that is neither a percentage nor a known code is refused', () => {
  for (const step of [undefined, null, '', 'x', '50%%', 101, -5, true, [], {}, Number.NaN, 'Infinity']) {
    expect(readProgress({ step }), String(step)).toEqual({ ok: false, code: 'no_step' })
  }
})

it('a download link in a description is replaced, so that none is stored', () => {
  const read = (desc: string) => readProgress({ step: -2, desc })
  const presigned = 'https://x.r2.cloudflarestorage.com/b/packages/k?X-Amz-Expires=60&X-Amz-Signature=0123'
  expect(read(`GET ${presigned} failed`)).toMatchObject({ value: { description: 'GET (link) failed' } })
  expect(read(`no answer: https://ota.example.com/d/${'A'.repeat(71)}`)).toMatchObject({
    value: { description: 'no answer: (link)' },
  })
  const token = 'Ab-_'.repeat(18).slice(1)
  for (const spelling of [`GET /d/${token} HTTP/1.1`, `GET host/d/${token}?x`, `GET %2Fd%2F${token}`]) {
    expect(read(spelling)).toMatchObject({ value: { description: expect.stringContaining('GET (link)') } })
  }
  expect(read('see https://example.com/help')).toMatchObject({
    value: { description: 'see https://example.com/help' },
  })
})

it('a description is cut to 128 whole characters', () => {
  const read = (desc: unknown) => readProgress({ step: 1, desc })
  expect(read('x'.repeat(500))).toMatchObject({ value: { description: 'x'.repeat(128) } })
  expect(read('🙂'.repeat(200))).toMatchObject({ value: { description: '🙂'.repeat(128) } })
  expect(read({})).toMatchObject({ value: { description: null } })
})

it('a message that is not a JSON object is refused with the reason', () => {
  for (const text of ['', '{', 'null', '[]', '1', '"x"']) expect(readJson(bytes(text)).ok).toBe(false)
  expect(readJson(new Uint8Array([0x7b, 0xff, 0x7d]))).toEqual({ ok: false, code: 'not_json' })
  expect(readJson(bytes(`"${'x'.repeat(70_000)}"`))).toEqual({ ok: false, code: 'message_too_large' })
  expect(readJson(bytes('\ufeff{"a":"1"}'))).toEqual({ ok: true, value: { a: '1' } })
})

it('a request is read with its module, and its id as text', () => {
  expect(readRequest({ id: 5, params: { module: 'MCU' } })).toEqual({
    ok: true,
    value: { id: '5', module: 'MCU' },
  })
  expect(readRequest({})).toEqual({ ok: true, value: { id: '', module: null } })
})

it('a notice has exactly the fields and types of the protocol', () => {
  const pkg = {
    version: 'v1.1',
    size: 432945,
    signMethod: 'SHA256' as const,
    sign: 'ab'.repeat(32),
    module: 'MCU',
    isDiff: false,
    extData: { key1: 'value1' },
  }
  expect(JSON.stringify(buildNotice(1764000001, pkg, 'https://x/y', null))).toBe(
    `{"id":"1764000001","code":200,"params":{"version":"v1.1","size":432945,"url":"https://x/y",` +
      `"signMethod":"SHA256","sign":"${'ab'.repeat(32)}","module":"MCU","extData":{"key1":"value1"}}}`,
  )
  const whole = { ...pkg, module: 'default', extData: {}, isDiff: true }
  expect(buildNotice(1, whole, 'u', null).params).not.toHaveProperty('module')
  expect(buildNotice(1, whole, 'u', 'default').params.module).toBe('default')
  expect(buildNotice(1, whole, 'u', null)).toMatchObject({ id: '0000000001', params: { isDiff: 1 } })
  expect(buildNotice(1, whole, 'u', null).params).not.toHaveProperty('extData')
})
