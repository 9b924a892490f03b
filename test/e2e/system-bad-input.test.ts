import { createHash, randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import { eventually, type System, startSystem } from './system.ts'
import { downlinkOf, type MqttDevice, TEN_STEPS } from './system-device.ts'
import { type Answer, counts, type KnownDevice, type Operator } from './system-operator.ts'

// Every bad input gets a clear error and no answer is a 500, while another device's upgrade goes on undisturbed.

let system: System
let operator: Operator & { key: string }
let productId: string
let packageId: string
let victim: KnownDevice
let neighbour: { known: KnownDevice; device: MqttDevice; taskId: string }

beforeAll(async () => {
  system = await startSystem()
  operator = await system.newTenant()
  productId = await operator.product()
  packageId = (await operator.pkg(productId, 'v1.1.0', randomBytes(5000))).id
  victim = await operator.device(productId, 'victim')
  const known = await operator.device(productId, 'neighbour')
  const device = await system.connect(known.username)
  await device.listen()
  await device.inform('v1.0.0')
  const { id: taskId } = await operator.task(packageId, { devices: { ids: [known.id] } })
  await device.notice(1)
  neighbour = { known, device, taskId }
})
afterAll(() => system.close())

/** The neighbour's state, which nothing in these tests may change. */
const expected = { status: 'upgrading', step: 0, notices: 1 }
beforeEach(async () => {
  expected.step++
  await neighbour.device.progress(expected.step)
})
afterEach(async () => {
  const { status, step, notices } = expected
  await eventually(async () =>
    expect(await operator.deviceIn(neighbour.taskId, neighbour.known)).toMatchObject({ status, step }),
  )
  expect(neighbour.device.heard).toHaveLength(notices)
  expect(system.errors()).toEqual([])
})

function expectProblem(answer: Answer, status: number, code: string, path?: string): void {
  expect(answer).toMatchObject({ status, body: { status, code } })
  expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/)
  for (const field of ['type', 'title', 'detail']) expect(answer.body[field]).toEqual(expect.any(String))
  if (path !== undefined) {
    expect(answer.body.errors).toContainEqual({ path, message: expect.any(String) })
  }
}

const rejectionsOf = async ({ id }: KnownDevice) => operator.get(`/api/v1/devices/${id}/rejections`)

it('a body that is not JSON, or has wrong types, is answered with the fault', async () => {
  const json = { 'content-type': 'application/json' }
  expectProblem(await operator.call('POST', '/api/v1/products', '{"name":', json), 400, 'request.malformed')
  for (const [path, body, fault] of [
    ['/api/v1/products', { name: 5 }, 'name'],
    ['/api/v1/products', { name: 'x'.repeat(5000) }, 'name'],
    ['/api/v1/devices', { productId, number: ['a'] }, 'number'],
    ['/api/v1/devices', { productId, number: 'n', accessToken: 'white space' }, 'accessToken'],
    ['/api/v1/packages', { productId, name: 'p', version: 'v'.repeat(500) }, 'version'],
    ['/api/v1/packages', { productId, name: 'p', version: 'v9', signMethod: 'CRC' }, 'signMethod'],
    ['/api/v1/tasks', { packageId, name: 't', devices: 'some' }, 'devices'],
    ['/api/v1/tasks', { packageId, name: 't', devices: 'all', startAt: 'next Sunday' }, 'startAt'],
    ['/api/v1/tasks', { packageId, name: 't', devices: 'all', startAt: '2026-02-30T12:00:00Z' }, 'startAt'],
    ['/api/v1/tasks', { packageId, name: 't', devices: 'all', endAt: '2001-01-01T00:00:00Z' }, 'endAt'],
    ['/api/v1/tasks', { packageId, name: 't', devices: 'all', policy: { onBusy: 1 } }, 'policy.onBusy'],
  ] as const) {
    expectProblem(await operator.call('POST', path, body), 422, 'request.invalid', fault)
  }
  expectProblem(await operator.call('GET', '/api/v1/devices?limit=many'), 422, 'request.invalid', 'limit')
  expectProblem(await system.callAs('Bearer nonsense')('GET', '/api/v1/devices'), 401, 'auth.required')
})

it('each unreadable message is rejected and kept for operators', async () => {
  const device = await system.connect(victim.username)
  const version = 'v'.repeat(500)
  const unreadable: [topic: string, message: unknown, reason: string][] = [
    ['ota/device/inform', '{"params":', 'not JSON'],
    ['ota/device/inform', [1, 2], 'not a JSON object'],
    ['ota/device/inform', { params: { version: ['v1'] } }, 'no usable version'],
    ['ota/device/inform', { params: { version } }, 'version longer than 64 characters'],
    ['ota/device/progress', { step: 'half' }, 'no usable step'],
    ['ota/device/progress', { step: 101 }, 'no usable step'],
    ['ota/devices/progress', { step: { value: 5 } }, 'no usable step'],
    ['ota/device/progress', { step: 5, module: ['MCU'] }, 'module is not text'],
  ]
  for (const [topic, message] of unreadable) await device.say(topic, message)
  // Bytes that are not text.
  await device.client.publishAsync('ota/device/inform', Buffer.from([0xff, 0xfe, 0x00]), { qos: 1 })
  await eventually(async () => expect((await rejectionsOf(victim)).total).toBe(unreadable.length + 1))
  const { items } = await rejectionsOf(victim)
  expect(items.map(({ reason }: { reason: string }) => reason).reverse()).toEqual([
    ...unreadable.map(([, , reason]) => reason),
    'not JSON',
  ])
  expect(items.at(-1)).toEqual({
    at: expect.stringMatching(/Z$/),
    topic: 'ota/device/inform',
    payload: '{"params":',
    code: 'not_json',
    reason: 'not JSON',
  })
  expect((await operator.get(`/api/v1/devices/${victim.id}`)).modules).toEqual([])

  const bearer = system.callAs(`Bearer ${victim.username}`)
  expectProblem(await bearer('POST', '/device/v1/inform', '{'), 400, 'message.unreadable')
  expectProblem(await bearer('POST', '/device/v1/progress', { step: [] }), 422, 'message.unreadable')
  expectProblem(await bearer('POST', '/device/v1/inform', { params: { version } }), 422, 'message.unreadable')
  expect((await rejectionsOf(victim)).total).toBe(unreadable.length + 4)
  device.client.end(true)
})

it('a connection without a known token is refused', async () => {
  for (const username of ['nobody-knows-me', '', '#', '+', 'a/b', 'x'.repeat(1000), operator.key]) {
    await expect(system.connect(username)).rejects.toMatchObject({ code: 4 })
  }
  await expect(system.connect(victim.username, { password: 'a password' })).rejects.toMatchObject({ code: 4 })
  await expect(
    system.connect(victim.username, { username: undefined as never, password: undefined as never }),
  ).rejects.toThrow()
  for (const authorization of [undefined, 'Bearer nobody-knows-me', `Bearer ${operator.key}`, 'Basic !!!']) {
    expectProblem(await system.callAs(authorization)('GET', '/device/v1/upgrade'), 401, 'auth.required')
  }
})

it('publishing on any other topic than the uplink topics ends the connection', async () => {
  const { username } = neighbour.known
  for (const topic of [
    downlinkOf(username),
    `ota/device/progress/${username}`,
    'ota/device/request/x',
    '$SYS/broker',
    'elsewhere',
  ]) {
    const device = await system.connect(victim.username)
    const closed = new Promise<void>((resolve) => device.client.once('close', () => resolve()))
    device.client.publish(topic, JSON.stringify({ id: '1', code: 200, params: {} }), { qos: 1 }, () => {})
    await closed
  }
})

it("wildcards and other devices' topics are refused in every filter, and the own topic is granted", async () => {
  const own = downlinkOf(victim.username)
  const others = downlinkOf(neighbour.known.username)
  const device = await system.connect(victim.username)
  for (const filter of ['#', 'ota/#', 'ota/device/inform/+', '$SYS/#', `$share/x/${others}`, others]) {
    expect(await device.listen(filter)).toEqual([128])
  }
  expect(await device.listen([own, others])).toEqual([1, 128])
  expect(await device.listen([others, 'ota/device/inform/#', own])).toEqual([128, 128, 1])
  // A notice for the neighbour, which an eavesdropper would get.
  await neighbour.device.say('ota/device/request', { id: 'overheard', params: {} })
  expected.notices++
  await neighbour.device.notice(expected.notices)
  await device.say('ota/device/request', { id: 'my own', params: {} })
  await eventually(() =>
    expect(device.heard.map(({ text }) => JSON.parse(text))).toEqual([
      { id: 'my own', code: 200, params: {} },
    ]),
  )
  device.client.end(true)
})

it('a payload over 64 KiB is refused', async () => {
  const before = (await rejectionsOf(victim)).total
  const device = await system.connect(victim.username)
  const closed = new Promise<void>((resolve) => device.client.once('close', () => resolve()))
  const desc = 'x'.repeat(64 * 1024)
  device.client.publish('ota/device/progress', JSON.stringify({ step: 5, desc }), { qos: 1 }, () => {})
  await closed
  const bearer = system.callAs(`Bearer ${victim.username}`)
  expectProblem(await bearer('POST', '/device/v1/progress', { step: 5, desc }), 413, 'message.too_large')

  // A message of exactly the limit is read.
  const again = await system.connect(victim.username)
  await again.say('ota/device/progress', JSON.stringify({ desc: '' }).padEnd(64 * 1024))
  await eventually(async () => expect((await rejectionsOf(victim)).total).toBe(before + 1))
  again.client.end(true)
})

it('an expired or altered download link is answered with 403 by R2', async () => {
  const device = await system.connect(victim.username)
  await device.listen()
  const policy = { downloadTtlSeconds: 1 }
  const { id } = await operator.task(packageId, { devices: { ids: [victim.id] }, policy })
  const { params } = await device.notice(1)
  await eventually(async () => {
    const expired = await fetch(params.url)
    expect(expired.status).toBe(403)
    expect(await expired.text()).toMatch(/<Code>\w+<\/Code>/)
  })
  await operator.post(`/api/v1/tasks/${id}/cancel`)

  const { url } = neighbour.device.notices()[0]!.params
  expect((await fetch(url)).status).toBe(200)
  for (const altered of [
    url.replace(/X-Amz-Signature=..../, 'X-Amz-Signature=0000'),
    url.replace(/X-Amz-Expires=\d+/, 'X-Amz-Expires=604800'),
    url.replace(/\/pkg_\w+\//, '/pkg_00000000000000000000000000/'),
  ]) {
    expect(altered).not.toBe(url)
    expect((await fetch(altered)).status).toBe(403)
  }
  device.client.end(true)
})

it("another tenant's ids are answered with 404 on every route", async () => {
  const stranger = await system.newTenant()
  const { taskId, known } = neighbour
  const strangers = { product: await stranger.product() }
  const pkg = await stranger.pkg(strangers.product, 'v1.1.0', randomBytes(10))
  for (const [code, method, path, body] of [
    ['product', 'GET', `/api/v1/products/${productId}`],
    ['product', 'PATCH', `/api/v1/products/${productId}`, { name: 'mine' }],
    ['product', 'DELETE', `/api/v1/products/${productId}`],
    ['product', 'POST', `/api/v1/products/${productId}/freeze`],
    ['product', 'POST', '/api/v1/devices', { productId, number: 'intruder' }],
    ['product', 'POST', `/api/v1/devices/import?productId=${productId}`, 'number\nintruder\n'],
    ['product', 'POST', '/api/v1/packages', { productId, name: 'p', version: 'v2' }],
    ['device', 'GET', `/api/v1/devices/${known.id}`],
    ['device', 'PATCH', `/api/v1/devices/${known.id}`, { enabled: false }],
    ['device', 'DELETE', `/api/v1/devices/${known.id}`],
    ['device', 'POST', `/api/v1/devices/${known.id}/rotate-token`],
    ['device', 'GET', `/api/v1/devices/${known.id}/rejections`],
    ['device', 'GET', `/api/v1/devices/${known.id}/upgrades`],
    ['device', 'POST', '/api/v1/tasks', { packageId: pkg.id, name: 't', devices: { ids: [known.id] } }],
    ['package', 'GET', `/api/v1/packages/${packageId}`],
    ['package', 'DELETE', `/api/v1/packages/${packageId}`],
    ['package', 'PUT', `/api/v1/packages/${packageId}/file`, 'bytes'],
    ['package', 'POST', '/api/v1/tasks', { packageId, name: 't', devices: 'all' }],
    ['task', 'GET', `/api/v1/tasks/${taskId}`],
    ['task', 'PATCH', `/api/v1/tasks/${taskId}`, { name: 'mine' }],
    ['task', 'POST', `/api/v1/tasks/${taskId}/cancel`],
    ['task', 'POST', `/api/v1/tasks/${taskId}/pause`],
    ['task', 'POST', `/api/v1/tasks/${taskId}/retry`],
    ['task', 'GET', `/api/v1/tasks/${taskId}/devices`],
    ['task', 'GET', `/api/v1/tasks/${taskId}/report.csv`],
    ['task', 'POST', `/api/v1/tasks/${taskId}/devices/${known.id}/cancel`],
  ] as const) {
    expectProblem(await stranger.call(method, path, body), 404, `${code}.not_found`)
  }
  expect((await stranger.get('/api/v1/devices')).items).toEqual([])
  expect((await stranger.get(`/api/v1/tasks?productId=${productId}`)).items).toEqual([])
})

it('an upload whose digest does not match is refused, and the package stays a draft', async () => {
  const bytes = randomBytes(5000)
  const { id } = await operator.post('/api/v1/packages', { productId, name: 'p', version: 'v2.0.0' })
  const path = `/api/v1/packages/${id}/file`
  const wrong = { 'x-content-sha256': createHash('sha256').update('something else').digest('hex') }
  expectProblem(await operator.call('PUT', path, bytes, wrong), 422, 'request.invalid', 'x-content-sha256')
  const malformed = { 'x-content-sha256': 'no digest' }
  expectProblem(
    await operator.call('PUT', path, bytes, malformed),
    422,
    'request.invalid',
    'x-content-sha256',
  )
  expect(await operator.get(`/api/v1/packages/${id}`)).toMatchObject({ state: 'draft', size: null })
  const task = { packageId: id, name: 't', devices: 'all' }
  expectProblem(await operator.call('POST', '/api/v1/tasks', task), 409, 'package.not_ready')
})

it('an upload that was cut off leaves the package a draft, which takes the next one', async () => {
  const { id } = await operator.post('/api/v1/packages', { productId, name: 'p', version: 'v3.0.0' })
  const socket = connect(Number(system.url.port), system.url.hostname)
  socket.on('error', () => {})
  const head = [
    `PUT /api/v1/packages/${id}/file HTTP/1.1`,
    `Host: ${system.url.host}`,
    `Authorization: Bearer ${operator.key}`,
    'Content-Type: application/octet-stream',
    'Content-Length: 2000000',
  ]
  socket.write(`${head.join('\r\n')}\r\n\r\n`)
  await new Promise((resolve) => socket.write(randomBytes(1_000_000), resolve))
  socket.destroy()
  expect(await operator.get(`/api/v1/packages/${id}`)).toMatchObject({ state: 'draft', size: null })
  const bytes = randomBytes(2000)
  const { status, body } = await operator.call('PUT', `/api/v1/packages/${id}/file`, bytes)
  const sign = createHash('sha256').update(bytes).digest('hex')
  expect({ status, ...body }).toMatchObject({ status: 200, state: 'ready', size: 2000, sign })
})

it('nonsense on every documented route is answered with a problem', async () => {
  const { body: openapi } = await system.callAs()('GET', '/openapi.json')
  const json = { 'content-type': 'application/json' }
  let routes = 0
  for (const [template, methods] of Object.entries(openapi.paths as Record<string, object>)) {
    // Malformed ids, the last one with a NUL and a quote.
    for (const id of ['nothing', '%00%27', 'x'.repeat(2000)]) {
      const path = template.replaceAll(/\{\w+\}/g, id)
      for (const method of Object.keys(methods).map((name) => name.toUpperCase())) {
        routes++
        const bodies = method === 'GET' ? [undefined] : ['{', 'null', '[[]]', '"\\u0000"', '{"a":1e999}']
        for (const body of bodies) {
          for (const call of [operator.call, system.callAs(`Bearer ${victim.username}`), system.callAs()]) {
            const answer = await call(method, path, body, body === undefined ? {} : json)
            expect(answer.status, `${method} ${path} ${body}`).toBeLessThan(500)
            const type = answer.headers.get('content-type') ?? ''
            if (answer.status >= 400) expect(type, `${method} ${path}`).toMatch(/^application\/problem\+json/)
          }
        }
      }
    }
  }
  expect(routes).toBeGreaterThan(100)
})

it('no bad input was answered with a 500, and the neighbour succeeds', async () => {
  expect(system.answers.filter(({ status }) => status >= 500)).toEqual([])
  expect(system.answers.length).toBeGreaterThan(1000)
  await neighbour.device.progress(...TEN_STEPS)
  await neighbour.device.inform('v1.1.0')
  Object.assign(expected, { status: 'success', step: 100 })
  await eventually(async () =>
    expect((await operator.view(neighbour.taskId)).counts).toEqual(counts({ success: 1 })),
  )
})
