import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { eventually, type System, startSystem } from './system.ts'
import { downlinkOf, type MqttDevice, TEN_STEPS } from './system-device.ts'
import { openLine } from './system-line.ts'
import { counts, type KnownDevice, type Operator } from './system-operator.ts'

let system: System
let operator: Operator
beforeAll(async () => {
  system = await startSystem()
  operator = await system.newTenant()
})
afterAll(() => system.close())

/** Makes a product with a ready package of v1.1.0. */
async function newProduct() {
  const productId = await operator.product()
  const { id: packageId } = await operator.pkg(productId, 'v1.1.0', randomBytes(1000))
  return { productId, packageId }
}

/** Connects a device that listens and has reported v1.0.0. */
async function start(device: KnownDevice): Promise<MqttDevice> {
  const connected = await system.connect(device.username)
  expect(await connected.listen()).toEqual([1])
  await connected.inform('v1.0.0')
  return connected
}

/** Waits until the task has these counts. */
const untilCounts = (taskId: string, expected: Record<string, number>) =>
  eventually(async () => expect((await operator.view(taskId)).counts).toEqual(counts(expected)))

const progressOf = ({ events }: { events: { kind: string; detail: string }[] }) =>
  events.filter(({ kind }) => kind === 'progress').map(({ detail }) => Number.parseInt(detail, 10))

it('six devices come to six different ends, and failed ones succeed when retried', async () => {
  const { productId, packageId } = await newProduct()
  const ends = ['success', '-1', '-2', '-3', '-4', 'cancelled'] as const
  const known = await Promise.all(ends.map((end) => operator.device(productId, `six ${end}`)))
  const devices = await Promise.all(known.map(start))
  const { id } = await operator.task(packageId)
  const first = await Promise.all(devices.map((device) => device.notice(1)))
  await untilCounts(id, { pushed: 6 })

  await operator.post(`/api/v1/tasks/${id}/devices/${known[5]!.id}/cancel`)
  await devices[0]!.progress(...TEN_STEPS)
  await devices[0]!.inform('v1.1.0')
  await Promise.all(
    [-1, -2, -3, -4].map(async (code, index) => {
      await devices[index + 1]!.progress(10, 50)
      await devices[index + 1]!.say('ota/device/progress', { step: String(code), desc: 'no luck' })
    }),
  )
  await untilCounts(id, { success: 1, failure: 4, cancelled: 1 })
  await eventually(async () => expect((await operator.view(id)).status).toBe('finished'))
  const states = await Promise.all(known.map((device) => operator.deviceIn(id, device)))
  expect(states.map(({ status, step, description }) => [status, step, description])).toEqual([
    ['success', 100, 'Upgrade Progress 100%'],
    ['failure', -1, 'upgrade failed: no luck'],
    ['failure', -2, 'download failed: no luck'],
    ['failure', -3, 'verification failed: no luck'],
    ['failure', -4, 'write failed: no luck'],
    ['cancelled', null, 'cancelled by an operator'],
  ])
  expect(progressOf(states[0])).toEqual(TEN_STEPS)

  expect(await operator.post(`/api/v1/tasks/${id}/retry`)).toEqual({ retried: 4, skipped: [] })
  const again = devices.slice(1, 5)
  const second = await Promise.all(again.map((device) => device.notice(2)))
  for (const [index, notice] of second.entries()) {
    expect(Number(notice.id)).toBeGreaterThan(Number(first[index + 1]!.id))
  }
  await Promise.all(
    again.map(async (device) => {
      await device.progress(...TEN_STEPS)
      await device.inform('v1.1.0')
    }),
  )
  await untilCounts(id, { success: 5, cancelled: 1 })
  expect(devices[5]!.notices()).toHaveLength(1)

  const retried = await operator.post(`/api/v1/tasks/${id}/retry?include=cancelled`)
  expect(retried).toEqual({ retried: 1, skipped: [] })
  await devices[5]!.notice(2)
  await devices[5]!.progress(100)
  await untilCounts(id, { success: 6 })
  const { body: report } = await operator.call('GET', `/api/v1/tasks/${id}/report.csv`)
  expect(report.match(/,success,100,/g)).toHaveLength(6)
  const history = await operator.get(`/api/v1/devices/${known[1]!.id}/upgrades`)
  await eventually(() => expect(history.items).toMatchObject([{ taskId: id, status: 'success', attempt: 2 }]))
})

it('a device that reports its old version gets three more notices, and fails at the fourth report', async () => {
  const { productId, packageId } = await newProduct()
  const known = await operator.device(productId, 'stubborn')
  const device = await start(known)
  const { id } = await operator.task(packageId)
  const taken = async () =>
    (await operator.deviceIn(id, known)).events.filter(
      (event: { kind: string }) => event.kind === 'notice taken',
    )
  for (const count of [1, 2, 3, 4]) {
    await device.notice(count)
    await eventually(async () => expect(await taken()).toHaveLength(count))
    await device.inform('v1.0.0')
  }
  await untilCounts(id, { failure: 1 })
  expect(await operator.deviceIn(id, known)).toMatchObject({
    description: 'still reports v1.0.0 after 3 more notices',
    pushes: 4,
    step: null,
  })
  expect(new Set(device.notices().map((notice) => notice.id)).size).toBe(4)
  expect(device.notices()).toHaveLength(4)
})

it('offline devices get their notice when they subscribe, report or ask', async () => {
  const { productId, packageId } = await newProduct()
  const known = await Promise.all(
    ['subscribes', 'reports', 'asks', 'over https'].map((number) => operator.device(productId, number)),
  )
  const { id } = await operator.task(packageId)
  await eventually(async () => {
    for (const device of known) {
      expect(await operator.deviceIn(id, device)).toMatchObject({
        status: 'pending',
        pushes: 0,
        waitingFor: expect.stringContaining('offline'),
      })
    }
  })
  const [subscribes, reports, asks, https] = known as [KnownDevice, KnownDevice, KnownDevice, KnownDevice]

  const first = await system.connect(subscribes.username)
  await first.listen()
  await first.notice(1)

  // Some firmware reports its version before it subscribes.
  const second = await system.connect(reports.username)
  await second.inform('v1.0.0')
  await second.listen()
  await second.notice(1)

  const third = await system.connect(asks.username)
  await third.say('ota/device/request', { id: 'a question', params: {} })
  await third.listen()
  await third.notice(1)

  const bearer = system.callAs(`Bearer ${https.username}`)
  const inform = { id: '1', params: { version: 'v1.0.0' } }
  expect(await bearer('POST', '/device/v1/inform', inform)).toMatchObject({
    status: 200,
    body: { code: 200 },
  })
  const notice = await bearer('GET', '/device/v1/upgrade')
  expect(notice.body.params.version).toBe('v1.1.0')
  expect(await operator.deviceIn(id, https)).toMatchObject({ status: 'pushed', fromVersion: 'v1.0.0' })
  expect((await fetch(notice.body.params.url)).status).toBe(200)

  for (const device of [first, second, third]) {
    await device.progress(...TEN_STEPS)
    await device.inform('v1.1.0')
  }
  await bearer('POST', '/device/v1/progress', { step: '50', desc: 'half' })
  await bearer('POST', '/device/v1/inform', { id: '2', params: { version: 'v1.1.0' } })
  await untilCounts(id, { success: 4 })
})

it('a device that asks over MQTT is told that nothing is due, under the id of its request', async () => {
  const { productId, packageId } = await newProduct()
  const known = await operator.device(productId, 'curious')
  const device = await start(known)
  await device.say('ota/device/request', { id: '4711', params: {} })
  await eventually(() =>
    expect(device.heard.map(({ text }) => JSON.parse(text))).toEqual([{ id: '4711', code: 200, params: {} }]),
  )
  const { id } = await operator.task(packageId)
  await device.notice(1)
  await device.progress(40)
  await untilCounts(id, { upgrading: 1 })
  await device.say('ota/device/request', { id: '4712', params: {} })
  expect((await device.notice(2)).params.version).toBe('v1.1.0')
  await device.progress(100)
  await untilCounts(id, { success: 1 })
})

it('a device with a username and a password is upgraded over MQTT and HTTPS', async () => {
  const { productId, packageId } = await newProduct()
  const credentials = { username: 'pump-7', password: 'correct horse' }
  const known = await operator.device(productId, 'with a password', { credentials })
  expect(known.username).toBe('pump-7')
  await expect(system.connect('pump-7')).rejects.toMatchObject({ code: 4 })
  await expect(system.connect('pump-7', { password: 'wrong' })).rejects.toMatchObject({ code: 4 })
  const basic = (password: string) => `Basic ${Buffer.from(`pump-7:${password}`).toString('base64')}`
  for (const refused of ['Bearer pump-7', basic(''), basic('wrong')]) {
    expect(await system.callAs(refused)('GET', '/device/v1/upgrade')).toMatchObject({ status: 401 })
  }

  const device = await system.connect('pump-7', { password: credentials.password })
  expect(await device.listen(downlinkOf('pump-7'))).toEqual([1])
  await device.inform('v1.0.0')
  const { id } = await operator.task(packageId)
  const notice = await device.notice(1)
  await eventually(async () => expect(await operator.deviceIn(id, known)).toMatchObject({ status: 'pushed' }))
  await device.progress(30)
  await untilCounts(id, { upgrading: 1 })
  const asked = await system.callAs(basic(credentials.password))('GET', '/device/v1/upgrade')
  expect(asked.body.params.sign).toBe(notice.params.sign)
  await device.progress(100)
  await untilCounts(id, { success: 1 })
})

it('devices of the later generation, and of the misspelt topic, are upgraded on their topics', async () => {
  const { productId, packageId } = await newProduct()
  const later = await operator.device(productId, 'SN-0001')
  const misspelt = await operator.device(productId, 'SN-0002')
  const second = await system.connect(later.username)
  expect(await second.listen('ota/devices/inform/SN-0001')).toEqual([1])
  await second.say('ota/devices/inform', { id: '1', params: { version: 'v1.0.0', module: '' } })
  const first = await system.connect(misspelt.username)
  await first.listen()
  await first.say('ota/device/infrom', { id: 7, params: { version: ' v1.0.0 ', module: null, more: true } })
  await eventually(async () => {
    for (const { id } of [later, misspelt]) {
      const { modules } = await operator.get(`/api/v1/devices/${id}`)
      expect(modules).toMatchObject([{ module: 'default', version: 'v1.0.0' }])
    }
  })
  const { id } = await operator.task(packageId)
  await second.notice(1)
  await first.notice(1)
  expect(second.heard[0]!.topic).toBe('ota/devices/inform/SN-0001')
  expect(first.heard[0]!.topic).toBe(downlinkOf(misspelt.username))
  await second.say('ota/devices/progress', { id: '3', params: { step: 100, desc: 'done' } })
  await first.say('ota/device/infrom', { id: '8', params: { version: 'v1.1.0' } })
  await untilCounts(id, { success: 2 })
})

it('no progress is lost if the Worker restarts in the middle', async () => {
  const { productId, packageId } = await newProduct()
  const known = await operator.device(productId, 'patient')
  const device = await start(known)
  const { id } = await operator.task(packageId)
  await device.notice(1)
  await device.progress(10, 20, 30)
  await untilCounts(id, { upgrading: 1 })
  const connects = system.bridge().stats().hub!.connects!
  await Promise.all([system.restartWorker(), device.progress(40, 50, 60, 70)])
  await eventually(() => expect(system.bridge().stats().hub!.connects).toBeGreaterThan(connects))
  await device.progress(80, 90, 100)
  await device.inform('v1.1.0')
  await untilCounts(id, { success: 1 })
  expect(progressOf(await operator.deviceIn(id, known))).toEqual(TEN_STEPS)
})

it('no progress is lost if the Worker and the bridge end, each while the other is away', async () => {
  const line = await openLine(system.url)
  await system.bridge().stop()
  const before = await system.newBridge({ workerUrl: line.url })
  const { productId, packageId } = await newProduct()
  const known = await operator.device(productId, 'very patient')
  const device = await start(known)
  const { id } = await operator.task(packageId)
  await device.notice(1)
  await device.progress(10, 20, 30)
  await untilCounts(id, { upgrading: 1 })

  line.cut()
  await device.progress(40, 50, 60)
  expect(before.stats().spool!.depth).toBeGreaterThanOrEqual(3)
  await before.stop()
  await system.restartWorker()
  line.mend()
  await system.newBridge({ workerUrl: line.url })
  const again = await system.connect(known.username)
  await again.listen()
  await again.progress(70, 80, 90, 100)
  await again.inform('v1.1.0')
  await untilCounts(id, { success: 1 })
  expect(progressOf(await operator.deviceIn(id, known))).toEqual(TEN_STEPS)
  line.close()
})
