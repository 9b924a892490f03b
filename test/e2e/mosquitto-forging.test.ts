import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { topicSuffix } from '../../bridge/identity.ts'
import { until } from './fake-worker.ts'
import { hasMosquitto } from './mosquitto.ts'
import { type MosquittoFixture, mosquittoFixture } from './mosquitto-fixture.ts'
import { downlinkOf, type MqttDevice } from './system-device.ts'

const REFUSED = 128
const NOT_AUTHORIZED = 135

describe.skipIf(!hasMosquitto())('forging at Mosquitto', () => {
  let f: MosquittoFixture
  /** Hears all messages, which only the bridge's account may. */
  let bridge: MqttDevice
  beforeAll(async () => {
    f = await mosquittoFixture()
    f.numbers.set('victim', 'number-of-victim')
  })
  beforeEach(async () => {
    bridge = await f.bridge()
    await bridge.listen('ota/#')
  })
  afterEach(() => bridge.client.endAsync())
  afterAll(() => f.end())

  /** All messages up to now, with their topics. */
  async function heard() {
    const marker = `ota/bridge/test/${bridge.heard.length}`
    await bridge.say(marker, '')
    await until('the marker', () => bridge.heard.some(({ topic }) => topic === marker))
    return bridge.heard.filter(({ topic }) => !topic.startsWith('ota/bridge/'))
  }

  const OTHERS = [
    'ota/device/progress/victim',
    'ota/device/inform/up/victim',
    'ota/devices/inform/up/victim',
    'ota/device/inform/victim',
    'ota/devices/inform/number-of-victim',
    'ota/device/progress/',
    'ota/device/progress/forger',
    'ota/bridge/default/marker',
    'ota/device',
    'elsewhere',
    '$SYS/broker/version',
    '$CONTROL/dynamic-security/v1',
  ]

  it.each(OTHERS)('a device may not publish on %s', async (topic) => {
    const old = await f.device('forger', { protocolVersion: 4 })
    await old.say(topic, 'forged').catch(() => {})
    const device = await f.device('forger', { protocolVersion: 5 })
    await expect(device.say(topic, 'forged')).rejects.toMatchObject({ code: NOT_AUTHORIZED })
    expect(await heard()).toEqual([])
  })

  it('a topic alias leads to no other topic', async () => {
    const device = await f.device('forger', { protocolVersion: 5 })
    const properties = { topicAlias: 1 }
    await device.client.publishAsync('ota/device/progress', '1', { qos: 1, properties })
    const refused = device.client.publishAsync('ota/device/progress/victim', '2', { qos: 1, properties })
    await expect(refused).rejects.toMatchObject({ code: NOT_AUTHORIZED })
    await device.client.publishAsync('', '3', { qos: 1, properties }).catch(() => {})
    expect(await heard()).toEqual([{ topic: 'ota/device/progress/forger', text: '1' }])
  })

  it('the publisher is that of the connection, whatever properties and envelopes say', async () => {
    const device = await f.device('forger', { protocolVersion: 5 })
    const userProperties = { $client_username: 'victim' }
    const envelope = JSON.stringify({ token: 'victim', device_id: 'victim', values: 'e30=' })
    await device.client.publishAsync('ota/device/progress', envelope, {
      qos: 1,
      properties: { userProperties },
    })
    expect(await heard()).toEqual([{ topic: 'ota/device/progress/forger', text: envelope }])
    const [message] = bridge.heard
    const read = topicSuffix.read({ topic: message!.topic, payload: Buffer.from(envelope) })
    expect(read).toMatchObject({ username: 'forger', topic: 'ota/device/progress' })
  })

  const FILTERS = [
    '#',
    '+/#',
    'ota/#',
    'ota/device/inform/+',
    'ota/device/inform/#',
    'ota/devices/inform/+',
    'ota/+/inform/forger',
    'ota/device/progress/+',
    'ota/device/progress',
    'ota/device/inform/victim',
    'ota/device/inform/up/victim',
    'ota/devices/inform/number-of-victim',
    `ota/devices/inform/${'n'.repeat(300)}`,
    '$SYS/#',
    '$share/group/ota/device/inform/forger',
    '$share/group/ota/device/progress/+',
    'ota/device/inform/forger/',
    'ota/device/inform/forger/#',
  ]

  it.each(FILTERS)('a device may not subscribe to %s', async (filter) => {
    const old = await f.device('forger', { protocolVersion: 4 })
    expect(await old.listen(filter)).toEqual([REFUSED])
    const device = await f.device('forger', { protocolVersion: 5 })
    expect(await device.listen(filter)).toEqual([NOT_AUTHORIZED])
  })

  it('every filter of a subscription is checked', async () => {
    const device = await f.device('forger', { clientId: 'many', clean: false })
    const filters = ['#', downlinkOf('forger'), downlinkOf('victim'), 'ota/devices/inform/number-of-victim']
    expect(await device.listen(filters)).toEqual([REFUSED, 1, REFUSED, REFUSED])
    for (const topic of [downlinkOf('victim'), 'ota/devices/inform/number-of-victim', downlinkOf('forger')]) {
      await bridge.say(topic, topic)
    }
    await until('its own', () => device.heard.length > 0)
    expect(device.heard.map(({ topic }) => topic)).toEqual([downlinkOf('forger')])
  })

  const USERNAMES = [
    'a/b',
    'forger/../victim',
    '+',
    '#',
    'victim\u0000',
    'victim\n',
    'victim 1 1',
    'A 1 victim -\nC victim',
    'víctim',
    'x'.repeat(65),
    'x'.repeat(10_240),
  ]

  it.each(USERNAMES)('the username %j is refused without a question to the bridge', async (username) => {
    f.users.set(username, '')
    const { asked } = f.counts()
    for (const protocolVersion of [4, 5] as const) {
      await expect(f.connect(username, { protocolVersion })).rejects.toThrow()
    }
    expect(f.counts()).toMatchObject({ asked, garbled: 0, plugins: 1 })
  })

  it('a connection without username, with a wrong password or with another authentication method is refused', async () => {
    f.users.set('basic', 'its password')
    const { mosquitto, connect } = f
    await expect(connect('', { password: '' })).rejects.toThrow()
    await expect(connect('stranger')).rejects.toThrow()
    await expect(connect('basic')).rejects.toThrow()
    await expect(connect('basic', { password: 'x'.repeat(60_000) })).rejects.toThrow()
    await expect(connect('basic', { password: 'its password and more' })).rejects.toThrow()
    const properties = { authenticationMethod: 'none', authenticationData: Buffer.from('x') }
    await expect(connect('victim', { protocolVersion: 5, properties })).rejects.toThrow()
    await connect('basic', { password: 'its password' })
    expect(mosquitto.log()).not.toMatch(/victim|basic|its password/)
  })

  it('other usernames may not take a client id that is in use or has a stored session', async () => {
    const options = { clientId: 'the client id of the victim', clean: false } as const
    const victim = await f.device('victim', options)
    await victim.listen()
    f.users.set('forger', '')
    for (const clean of [true, false]) {
      await expect(f.connect('forger', { ...options, clean })).rejects.toThrow()
    }
    expect(victim.client.connected).toBe(true)
    await victim.client.endAsync()
    await expect(f.connect('forger', { ...options, clean: true })).rejects.toThrow()
    await bridge.say(downlinkOf('victim'), 'for its stored session')

    // The same token may take the client id over, even while it is connected.
    const again = await f.connect('victim', options)
    await until('the notice', () => again.heard.length === 1)
    await f.connect('victim', options)
    await until('the older to end', () => !again.client.connected)
  })

  it('the client id of a token that is gone may be used by the next token', async () => {
    const options = { clientId: 'rotating', clean: false } as const
    f.numbers.set('old-token', 'number-of-old')
    const before = await f.device('old-token', options)
    await before.listen([downlinkOf('old-token'), 'ota/devices/inform/number-of-old'])
    await before.client.endAsync()
    f.users.delete('old-token')
    f.numbers.delete('old-token')
    const after = await f.device('new-token', options)
    await after.listen()
    for (const topic of [downlinkOf('old-token'), 'ota/devices/inform/number-of-old']) {
      await bridge.say(topic, 'not for the new one')
    }
    await bridge.say(downlinkOf('new-token'), 'for the new one')
    await until('the notice', () => after.heard.length === 1)
    expect(after.heard[0]!.text).toBe('for the new one')
  })

  it('no will becomes a message', async () => {
    for (const topic of ['ota/device/progress', ...OTHERS.slice(0, 5)]) {
      for (const protocolVersion of [4, 5] as const) {
        const will = { topic, payload: Buffer.from('{"step":"-1"}'), qos: 1 as const, retain: true }
        const device = await f.device('dying', { protocolVersion, will })
        device.client.stream.destroy()
        await until('the end', () => f.events.at(-1) === 'disconnected dying')
      }
    }
    // Wills of a connection that is taken over and of one that the bridge ends.
    const will = {
      topic: 'ota/device/progress',
      payload: Buffer.from('{"step":"-1"}'),
      qos: 1 as const,
      retain: true,
    }
    await f.device('dying', { clientId: 'twice', will })
    await f.device('dying', { clientId: 'twice', will })
    f.dropSessions('dying')
    await until('the end', () => f.events.at(-1) === 'disconnected dying')
    // If the broker takes a will, its topic has no publisher, and the bridge reads it as no message.
    const all = (await heard()).map(({ topic, text }) =>
      topicSuffix.read({ topic, payload: Buffer.from(text) }),
    )
    expect(all.every((message) => message === undefined)).toBe(true)
    expect((await heard()).every(({ topic }) => topic === 'ota/device/progress')).toBe(true)
  })

  it("the bridge's account and client ids are for the bridge alone", async () => {
    const { asked } = f.counts()
    for (const password of [
      '',
      'of the bridg',
      'of the bridge ',
      'of the bridge and more',
      'x'.repeat(1000),
    ]) {
      await expect(f.connect(f.mosquitto.login.username, { password })).rejects.toThrow()
    }
    expect(f.counts().asked).toBe(asked)
    f.users.set('forger', '')
    for (const clientId of ['edge-ota-bridge-default', 'edge-ota-bridge-', 'edge-ota-bridge-x']) {
      await expect(f.connect('forger', { clientId })).rejects.toThrow()
    }
    expect(bridge.client.connected).toBe(true)
  })

  it('a malformed client id is refused', async () => {
    f.users.set('forger', '')
    await expect(f.connect('forger', { clientId: 'x'.repeat(257) })).rejects.toThrow()
    await expect(f.connect('forger', { clientId: 'x'.repeat(60_000) })).rejects.toThrow()
    await f.connect('forger', { clientId: 'x'.repeat(256) })
  })
})
