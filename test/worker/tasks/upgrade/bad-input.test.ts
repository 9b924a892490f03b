import { Buffer } from 'node:buffer'
import { describe, expect, it } from 'vitest'
import { caller } from '../../api.ts'
import { type Lab, type LabDevice, makeLab, over, progresses, reports, says } from '../../lab.ts'
import { taken } from '../../lab-bridge.ts'

/** A device that has a notice for v2. `expectUndisturbed` expects that it is still Pushed and can be upgraded. */
async function pushed() {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  await lab.bridge.post([reports(device, 'v1')])
  const task = await lab.upgradeTo('v2')
  const { frame } = await lab.push(device)
  const expectUndisturbed = async () => {
    expect(await task.device(device)).toMatchObject({
      status: 'pushed',
      step: null,
      pushes: 1,
      fromVersion: 'v1',
    })
    expect(await lab.unexpected()).toEqual([])
    await lab.bridge.post([progresses(device, 100)])
    expect((await task.device(device)).status).toBe('success')
  }
  return { lab, device, task, frame, expectUndisturbed }
}

const base64 = (bytes: string | Uint8Array) => Buffer.from(bytes as string).toString('base64')

describe('batches', () => {
  const post = (lab: Lab, body: unknown, headers?: Record<string, string>) =>
    lab.bridge.client.call('POST', '/bridge/v1/messages', body, headers)

  it('a batch that cannot be read or names another bridge is refused as a whole', async () => {
    const { lab, expectUndisturbed } = await pushed()
    const isJson = { 'content-type': 'application/json' }
    const refused: [unknown, number, Record<string, string>?][] = [
      ['{"bridge":', 400, isJson],
      ['', 400, isJson],
      [{}, 422],
      [[], 422],
      [{ bridge: 'default', items: {} }, 422],
      [{ bridge: 'default', items: 'x' }, 422],
      [{ bridge: 5, items: [] }, 422],
      [{ bridge: 'default', upTo: 'yesterday', items: [] }, 422],
      [{ bridge: 'default', upTo: -1, items: [] }, 422],
      [{ bridge: 'default', upTo: 1.5, items: [] }, 422],
      [{ bridge: 'default', items: Array(1001).fill({}) }, 422],
      [{ bridge: 'other', items: [] }, 403],
      [{ bridge: 'default', items: ['x'.repeat(4 * 1024 * 1024)] }, 413],
    ]
    for (const [body, status, headers] of refused) {
      const answer = await post(lab, body, headers)
      const which = JSON.stringify(body).slice(0, 60)
      expect(answer.status, which).toBe(status)
      expect(answer.headers.get('content-type'), which).toBe('application/problem+json')
      expect(answer.body, which).toMatchObject({ status, code: expect.stringMatching(/^[a-z]+\.[a-z_]+$/) })
    }
    await expectUndisturbed()
  })

  it('a batch without the key of a bridge is refused', async () => {
    const { lab, expectUndisturbed } = await pushed()
    const body = { bridge: 'default', items: [] }
    expect((await caller(undefined)('POST', '/bridge/v1/messages', body)).status).toBe(401)
    expect((await caller('wrong')('POST', '/bridge/v1/messages', body)).status).toBe(401)
    expect((await lab.admin.call('POST', '/bridge/v1/messages', body)).status).toBe(403)
    expect((await lab.bridge.client.call('GET', '/bridge/v1/socket')).status).toBe(426)
    expect((await lab.bridge.client.call('GET', '/api/v1/devices')).status).toBe(403)
    await expectUndisturbed()
  })

  it('a batch with bad items among good ones loses only the bad ones', async () => {
    const { lab, device, frame, expectUndisturbed } = await pushed()
    const message = {
      kind: 'message',
      username: device.token,
      topic: 'ota/device/progress',
      payload: base64('{}'),
    }
    const bad: unknown[] = [
      null,
      5,
      'text',
      [],
      {},
      { id: 'k' },
      { ...message, id: 'k', kind: 'other' },
      { ...message, id: '' },
      { ...message, id: 'x'.repeat(65) },
      { ...message, id: 'k', payload: '***' },
      { ...message, id: 'k', payload: 5 },
      { ...message, id: 'k', username: 'no such/level' },
      { ...message, id: 'k', username: '' },
      { ...message, id: 'k', topic: '' },
      { ...message, id: 'k', topic: 'x'.repeat(257) },
      { ...message, id: 'k', at: 'never' },
      { id: 'k', kind: 'presence', event: 'danced', username: device.token },
      { id: 'k', kind: 'presence', event: 'subscribed' },
      { id: 'k', kind: 'sent' },
      { id: 'k', kind: 'sent', notice: { ...frame.notice, id: '12' } },
      { id: 'k', kind: 'taken', notice: frame.notice, result: 'maybe' },
    ]
    const good = { ...reports(device, 'v1.5', 'MCU'), id: 'good' }
    const answer = await post(lab, { bridge: 'default', items: bad.flatMap((item) => [item, good]) })
    expect(answer.status).toBe(200)
    const { results } = answer.body
    expect(results).toHaveLength(bad.length * 2)
    for (const [index, item] of bad.entries()) {
      expect(results[index * 2], JSON.stringify(item)).toMatchObject({
        status: 'rejected',
        reason: expect.stringMatching(/^not a valid item/),
      })
      expect(results[index * 2 + 1]).toEqual({ id: 'good', status: 'taken' })
    }
    const { body } = await lab.admin.call('GET', `/api/v1/devices/${device.id}`)
    expect(body.modules).toContainEqual(expect.objectContaining({ module: 'MCU', version: 'v1.5' }))
    await expectUndisturbed()
  })

  it('each meaningless message of a batch is rejected with a reason, and kept as a rejection of its device', async () => {
    const { lab, device, frame, expectUndisturbed } = await pushed()
    const inform = 'ota/device/inform'
    const progress = 'ota/device/progress'
    const stranger = { id: 'x', number: 'x', token: 'unknown-token' }
    const task = (change: object) => ({ ...frame, notice: { ...frame.notice, ...change } })
    const sent: [Parameters<typeof says>[2] | null, string, RegExp][] = [
      ['no JSON', inform, /^not JSON$/],
      ['', inform, /^not JSON$/],
      ['[]', inform, /^not a JSON object$/],
      ['null', progress, /^not a JSON object$/],
      ['"100"', progress, /^not a JSON object$/],
      [{ params: {} }, inform, /^no usable version$/],
      [{ params: { version: 5.1 } }, inform, /^the version is a fraction/],
      [{ params: { version: '   ' } }, inform, /^no usable version$/],
      [{ params: { version: 'v'.repeat(500) } }, inform, /^version longer than 64 characters$/],
      [{ params: { version: 'v2', module: 'm'.repeat(65) } }, inform, /^module longer/],
      [{ params: { version: 'v2', module: {} } }, inform, /^module is not text$/],
      [{}, progress, /^no usable step$/],
      [{ step: 101 }, progress, /^no usable step$/],
      [{ step: -5 }, progress, /^no usable step$/],
      [{ step: '1e309' }, progress, /^no usable step$/],
      [{ step: 'all' }, progress, /^no usable step$/],
      [{ step: true }, progress, /^no usable step$/],
      [{ step: [100] }, progress, /^no usable step$/],
      [{ step: 100 }, 'ota/device/other', /^not an uplink topic$/],
      [{ step: 100 }, `ota/device/inform/${device.token}`, /^not an uplink topic$/],
      [`{"step":100,"desc":"${'x'.repeat(64 * 1024)}"}`, progress, /^larger than 64 KiB$/],
    ]
    const results = await lab.bridge.post([
      ...sent.map(([message, topic]) => says(device, topic, message)),
      says(stranger, inform, { params: { version: 'v2' } }),
      taken(task({ task: 'tsk_unknown' })),
      { kind: 'message', username: device.token, topic: inform, payload: base64(Uint8Array.of(0xff, 0xfe)) },
    ])
    const reasons = [
      ...sent.map(([, , reason]) => reason),
      /^unknown device$/,
      /^unknown task$/,
      /^not JSON$/,
    ]
    for (const [index, reason] of reasons.entries()) {
      expect(results[index], String(index)).toMatchObject({
        status: 'rejected',
        reason: expect.stringMatching(reason),
      })
    }
    const { body } = await lab.admin.call('GET', `/api/v1/devices/${device.id}/rejections`)
    expect(body.total).toBe(sent.length + 1)
    expect(body.items).toHaveLength(20)
    expect(body.items[0]).toMatchObject({ topic: inform, reason: 'not JSON' })
    for (const item of body.items) expect(Buffer.byteLength(item.payload)).toBeLessThanOrEqual(1024 + 4)
    await expectUndisturbed()
  })

  it('strange but readable messages break nothing', async () => {
    const { lab, device, task } = await pushed()
    const nested = `{"step":1,"desc":"x","extra":${'['.repeat(5000)}${']'.repeat(5000)}}`
    const strange = [
      says(device, 'ota/device/inform', '{"params":{"version":"\\u0000v\\ud800","module":"\\udfff"}}'),
      says(
        device,
        'ota/device/inform',
        '{"__proto__":{"version":"v2"},"params":{"version":"v1","constructor":1}}',
      ),
      says(
        device,
        'ota/device/inform',
        `{"id":{"a":1},"params":{"version":"'; DROP TABLE devices; --","module":"x"}}`,
      ),
      says(device, 'ota/device/progress', '{"step":2,"desc":"\\u0000\\ud83d"}'),
      says(device, 'ota/device/progress', nested),
      says(device, 'ota/device/progress', { step: 3, desc: '😀'.repeat(200), module: '__proto__' }),
      says(device, 'ota/device/request', '{"id":"\\ud800\\u0000","params":{"module":"constructor"}}'),
    ]
    const results = await lab.bridge.post(strange)
    expect(results.map(({ status }) => status)).toEqual(strange.map(() => 'taken'))
    expect((await lab.admin.call('GET', `/api/v1/devices/${device.id}`)).status).toBe(200)
    expect((await lab.admin.call('GET', `/api/v1/devices?productId=${lab.productId}`)).status).toBe(200)
    // The device reported v1, so the notice goes out again.
    await lab.push(device)
    await lab.bridge.post([progresses(device, 100)])
    expect((await task.device(device)).status).toBe('success')
    await lab.unexpected()
  })
})

describe('the device API', () => {
  it('the device API refuses wrong requests with a clear status, and the upgrade goes on', async () => {
    const { device, expectUndisturbed } = await pushed()
    const call = over(device)
    const isJson = { 'content-type': 'application/json' }
    const refused: [string, string, unknown, number][] = [
      ['POST', '/device/v1/inform', '{"params":', 400],
      ['POST', '/device/v1/inform', '', 400],
      ['POST', '/device/v1/inform', '[]', 422],
      ['POST', '/device/v1/inform', { params: { version: 'v'.repeat(500) } }, 422],
      ['POST', '/device/v1/inform', { params: { version: ['v2'] } }, 422],
      ['POST', '/device/v1/progress', { step: 'x' }, 422],
      ['POST', '/device/v1/progress', { step: 1000 }, 422],
      ['POST', '/device/v1/progress', { step: 1, module: 'm'.repeat(65) }, 422],
      ['POST', '/device/v1/progress', `{"step":1,"x":"${'x'.repeat(64 * 1024)}"}`, 413],
      ['GET', `/device/v1/upgrade?module=${'m'.repeat(65)}`, undefined, 422],
      ['GET', `/device/v1/upgrade?id=${'1'.repeat(65)}`, undefined, 422],
      ['DELETE', '/device/v1/upgrade', undefined, 404],
      ['GET', '/device/v1/other', undefined, 404],
    ]
    for (const [method, path, body, status] of refused) {
      const answer = await call(method, path, body, isJson)
      const which = `${method} ${path} ${JSON.stringify(body)}`.slice(0, 90)
      expect(answer.status, which).toBe(status)
      expect(answer.headers.get('content-type'), which).toBe('application/problem+json')
    }
    for (const token of [
      undefined,
      '',
      'unknown',
      `${device.token}x`,
      `${device.token}' OR 1=1`,
      'x'.repeat(5000),
    ]) {
      const answer = await caller(token)('GET', '/device/v1/upgrade')
      expect(answer.status, token).toBe(401)
      expect(answer.headers.get('www-authenticate')).toContain('Bearer')
    }
    await expectUndisturbed()
  })
})

it('neither a token nor a download link is in what operators see of a task', async () => {
  const { lab, device, task } = await pushed()
  const listed = await lab.admin.call('GET', `/api/v1/tasks/${task.id}/devices`)
  const text = JSON.stringify([await task.device(device), listed.body])
  expect(text).not.toContain(device.token)
  expect(text).not.toContain('X-Amz-Signature')
})
