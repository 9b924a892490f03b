import { createHash, randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hasMosquitto } from './mosquitto.ts'
import { eventually, type System, startSystem } from './system.ts'
import { downlinkOf } from './system-device.ts'
import { openLine } from './system-line.ts'
import { counts, type Operator } from './system-operator.ts'
import { toolDevice } from './tool-device.ts'

// Long enough for the bridge's next read of the feed, by which a disabled device's session ends within a minute.
const REVOKED_WITHIN_MS = 60_000

describe.skipIf(!hasMosquitto())('the whole system with Mosquitto', () => {
  let system: System
  let operator: Operator
  const ends: (() => void)[] = []
  beforeAll(async () => {
    system = await startSystem({ withBridge: true, mosquitto: true })
    operator = await system.newTenant()
  })
  afterAll(async () => {
    for (const end of ends) end()
    await system.close()
  })

  const GENERATIONS = [
    {
      name: 'the flat topics',
      number: 'flat 1',
      inform: 'ota/device/inform',
      progress: 'ota/device/progress',
      downlink: (token: string) => downlinkOf(token),
    },
    {
      name: 'the misspelt topic',
      number: 'misspelt 1',
      inform: 'ota/device/infrom',
      progress: 'ota/device/progress',
      downlink: (token: string) => downlinkOf(token),
    },
    {
      name: 'the later topics',
      number: 'later-1',
      inform: 'ota/devices/inform',
      progress: 'ota/devices/progress',
      downlink: () => 'ota/devices/inform/later-1',
    },
  ]

  it.each(GENERATIONS)('an unmodified device that knows only $name is upgraded', async (generation) => {
    const productId = await operator.product()
    const known = await operator.device(productId, generation.number)
    const device = toolDevice(system.mqttUrl(), known.username)
    ends.push(device.end)
    const report = (version: string) => device.say(generation.inform, { id: '1', params: { version } })

    // A new device is refused until the bridge knows it; it tries again, as devices do.
    await eventually(() => report('v1.0.0'))
    const heard = device.listen(generation.downlink(known.username))
    await eventually(async () => {
      const { online, modules } = await operator.get(`/api/v1/devices/${known.id}`)
      expect({ online, modules }).toMatchObject({ online: true, modules: [{ version: 'v1.0.0' }] })
    })

    const image = randomBytes(5000)
    const pkg = await operator.pkg(productId, 'v1.1.0', image)
    const task = await operator.task(pkg.id)
    await eventually(() => expect(heard()).toHaveLength(1))
    expect(heard()[0]!.topic).toBe(generation.downlink(known.username))
    const { params } = JSON.parse(heard()[0]!.text)
    const file = Buffer.from(await (await fetch(params.url)).arrayBuffer())
    expect(createHash('sha256').update(file).digest('hex')).toBe(params.sign)

    for (const step of ['10', '50', '100']) await device.say(generation.progress, { step, desc: `${step}%` })
    await report('v1.1.0')
    await eventually(async () => {
      const view = await operator.view(task.id)
      expect(view).toMatchObject({ status: 'finished', counts: counts({ success: 1 }) })
    })
    const { events } = await operator.deviceIn(task.id, known)
    const steps = events.filter(({ kind }: { kind: string }) => kind === 'progress')
    expect(steps.map(({ detail }: { detail: string }) => Number.parseInt(detail, 10))).toEqual([10, 50, 100])
    expect(heard()).toHaveLength(1)
    device.end()
    await eventually(async () =>
      expect((await operator.get(`/api/v1/devices/${known.id}`)).online).toBe(false),
    )
    expect(system.errors()).toEqual([])
  })

  it('a faked property, an envelope or a will changes no other device', async () => {
    const productId = await operator.product()
    const [victim, forger] = [
      await operator.device(productId, 'victim'),
      await operator.device(productId, 'forger'),
    ]
    const victimDevice = await eventually(() => system.connect(victim.username))
    await victimDevice.listen()
    await victimDevice.inform('v1.0.0')
    const pkg = await operator.pkg(productId, 'v1.1.0', randomBytes(1000))
    const task = await operator.task(pkg.id, { devices: { ids: [victim.id] } })
    await victimDevice.notice(1)
    await eventually(async () => expect((await operator.view(task.id)).counts).toEqual(counts({ pushed: 1 })))

    const failed = { step: '-1', desc: 'forged' }
    const device = toolDevice(system.mqttUrl(), forger.username)
    const property = ['-V', '5', '-D', 'PUBLISH', 'user-property', '$client_username', victim.username]
    await eventually(() => device.say('ota/device/progress', failed, ...property))
    const values = Buffer.from(JSON.stringify(failed)).toString('base64')
    await device.say('ota/device/progress', { token: victim.username, values })
    await device.say(`ota/device/progress/${victim.username}`, failed)
    await device.say(`ota/device/inform/up/${victim.username}`, { id: '1', params: { version: 'v9' } })
    for (const topic of ['ota/device/progress', `ota/device/progress/${victim.username}`]) {
      const will = { topic, payload: Buffer.from(JSON.stringify(failed)), qos: 1 as const }
      const dying = await system.connect(forger.username, { will })
      dying.client.stream.destroy()
    }
    // The victim's own message comes after all forged ones.
    await victimDevice.progress(10)
    await eventually(async () =>
      expect((await operator.view(task.id)).counts).toEqual(counts({ upgrading: 1 })),
    )
    const { events } = await operator.deviceIn(task.id, victim)
    expect(JSON.stringify(events)).not.toContain('forged')
    const { modules } = await operator.get(`/api/v1/devices/${victim.id}`)
    expect(modules).toMatchObject([{ version: 'v1.0.0' }])
    expect(system.errors()).toEqual([])
  })

  it('the session of a disabled device, and of a replaced token, is ended', async () => {
    const productId = await operator.product()
    const known = await operator.device(productId, 'disabled')
    const device = await eventually(() => system.connect(known.username))
    await operator.call('PATCH', `/api/v1/devices/${known.id}`, { enabled: false })
    await eventually(() => expect(device.client.connected).toBe(false), REVOKED_WITHIN_MS)
    await expect(system.connect(known.username)).rejects.toThrow()

    await operator.call('PATCH', `/api/v1/devices/${known.id}`, { enabled: true })
    const options = { clientId: 'of the device', clean: false } as const
    const again = await eventually(() => system.connect(known.username, options), REVOKED_WITHIN_MS)
    const { accessToken } = await operator.post(`/api/v1/devices/${known.id}/rotate-token`)
    await eventually(() => expect(again.client.connected).toBe(false), REVOKED_WITHIN_MS)
    await expect(system.connect(known.username, options)).rejects.toThrow()
    await eventually(() => system.connect(accessToken, options))
  })

  it('known devices are let in while the Worker is away, after a kill of the broker and a restart of the bridge', async () => {
    const line = await openLine(system.url)
    ends.push(line.close)
    const bridge = { workerUrl: line.url, timing: { backoffBaseMs: 50, leaseWaitMs: 100 } }
    await system.bridge().stop()
    await system.newBridge(bridge)
    const productId = await operator.product()
    const known = await operator.device(productId, 'out-of-reach')
    const before = await eventually(() => system.connect(known.username))
    expect(await before.listen('ota/devices/inform/out-of-reach')).toEqual([1])

    line.cut()
    await Promise.all([system.bridge().stop(), system.mosquitto!.kill()])
    await system.mosquitto!.restart()
    await system.newBridge(bridge)
    const device = await eventually(() => system.connect(known.username))
    expect(await device.listen('ota/devices/inform/out-of-reach')).toEqual([1])
    await eventually(() => expect(system.bridge().stats().broker).toMatchObject({ connects: 1 }))
    await device.inform('v2.0.0')
    line.mend()
    await eventually(async () => {
      const { online, modules } = await operator.get(`/api/v1/devices/${known.id}`)
      expect({ online, modules }).toMatchObject({ online: true, modules: [{ version: 'v2.0.0' }] })
    })
  })

  it("the broker's log has no token", async () => {
    const { items } = await operator.get('/api/v1/devices?limit=200')
    expect(items.length).toBeGreaterThan(0)
    for (const { id } of items) {
      const { accessToken } = await operator.get(`/api/v1/devices/${id}`)
      expect(accessToken).toEqual(expect.any(String))
      expect(system.mosquitto!.log()).not.toContain(accessToken)
    }
  })
})
