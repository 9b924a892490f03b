import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { topicSuffix } from '../../bridge/identity.ts'
import { UPLINK_TOPIC_NAMES } from '../../src/protocol/device.ts'
import { until } from './fake-worker.ts'
import { hasMosquitto } from './mosquitto.ts'
import { type MosquittoFixture, mosquittoFixture } from './mosquitto-fixture.ts'
import { eventually } from './system.ts'
import { downlinkOf } from './system-device.ts'

describe.skipIf(!hasMosquitto())('the plugin of Mosquitto', () => {
  let f: MosquittoFixture
  beforeAll(async () => {
    f = await mosquittoFixture()
  })
  beforeEach(() => {
    f.events.length = 0
  })
  afterAll(() => f.end())

  it.each([4, 5] as const)(
    'the plugin appends the publisher to each flat topic and retains nothing (MQTT %i)',
    async (protocolVersion) => {
      const bridge = await f.bridge()
      await bridge.listen([...topicSuffix.filters])
      const device = await f.device(`flat-${protocolVersion}`, { protocolVersion })
      for (const topic of UPLINK_TOPIC_NAMES) {
        await device.client.publishAsync(topic, topic, { qos: 1, retain: true })
      }
      await until('all', () => bridge.heard.length === UPLINK_TOPIC_NAMES.length)
      const read = bridge.heard.map(({ topic, text }) =>
        topicSuffix.read({ topic, payload: Buffer.from(text) }),
      )
      expect(read.map((message) => [message?.username, message?.topic])).toEqual(
        UPLINK_TOPIC_NAMES.map((topic) => [`flat-${protocolVersion}`, topic]),
      )
      const later = await f.bridge({ clientId: 'edge-ota-bridge-later' })
      await later.listen('ota/#')
      await later.say('ota/bridge/later/marker', 'the first that it hears')
      await until('the marker', () => later.heard.length > 0)
      expect(later.heard[0]!.topic).toBe('ota/bridge/later/marker')
    },
  )

  it('a device may subscribe to both of its topics, and the bridge hears of it', async () => {
    const bridge = await f.bridge()
    f.numbers.set('listener', 'number-1')
    const device = await f.device('listener')
    expect(await device.listen()).toEqual([1])
    expect(await device.listen('ota/devices/inform/number-1')).toEqual([1])
    await bridge.say(downlinkOf('listener'), 'one')
    await bridge.say('ota/devices/inform/number-1', 'two')
    await until('both', () => device.heard.length === 2)
    const other = await f.device('listener')
    device.client.end(true)
    other.client.end(true)
    await until('the end', () => f.events.includes('disconnected listener'))
    expect(f.events).toEqual([
      'connected listener',
      'subscribed listener ota/device/inform/listener',
      'subscribed listener ota/devices/inform/number-1',
      'disconnected listener',
    ])
  })

  it('a notice for a stored session outlives a restart of the broker, in both families', async () => {
    f.numbers.set('sleeper', 'number-2')
    const options = { clientId: 'sleeper', clean: false } as const
    const device = await f.device('sleeper', options)
    await device.listen()
    await device.listen('ota/devices/inform/number-2')
    await device.client.endAsync()
    const { plugins } = f.counts()
    await f.mosquitto.restart()
    const bridge = await f.bridge()
    await until('the plugin', () => f.counts().plugins! > plugins!)
    await bridge.say(downlinkOf('sleeper'), 'one')
    await bridge.say('ota/devices/inform/number-2', 'two')
    const woken = await f.connect('sleeper', options)
    await until('both', () => woken.heard.length === 2)
    expect(woken.heard.map(({ text }) => text)).toEqual(['one', 'two'])
  })

  it('the plugin ends the connections of a username and removes its stored subscriptions', async () => {
    const options = { clientId: 'revoked', clean: false } as const
    const device = await f.device('revoked', options)
    const second = await f.device('revoked')
    const other = await f.device('not-revoked')
    await device.listen()
    f.users.delete('revoked')
    f.dropSessions('revoked')
    await until('the end', () => !device.client.connected && !second.client.connected)
    await expect(f.connect('revoked', options)).rejects.toThrow()
    expect(other.client.connected).toBe(true)
    const bridge = await f.bridge({ protocolVersion: 5 })
    const puback = new Promise((resolve) => bridge.client.once('packetreceive', resolve))
    await bridge.say(downlinkOf('revoked'), 'x')
    expect(await puback).toMatchObject({ cmd: 'puback', reasonCode: 0x10 })
  })

  it('a reload of the configuration ends no connection and brings a new password for the bridge', async () => {
    const sleeper = await f.device('reload-sleeper', { clientId: 'reload-sleeper', clean: false })
    await sleeper.listen()
    await sleeper.client.endAsync()
    const device = await f.device('reload')
    await until('both', () => f.events.includes('connected reload'))
    f.users.delete('reload-sleeper')
    f.setSilent(true)
    f.mosquitto.reload('another password')
    const bridge = await eventually(() => f.bridge({ password: 'another password' }))
    f.setSilent(false)
    await expect(f.bridge()).rejects.toThrow()
    await bridge.listen('ota/device/progress/+')
    await device.say('ota/device/progress', 'still here')
    await until('the message', () => bridge.heard.length === 1)
    device.client.end(true)
    await until('the end', () => f.events.includes('disconnected reload'))
    expect(f.events.filter((event) => !event.startsWith('subscribed'))).toEqual([
      'connected reload-sleeper',
      'disconnected reload-sleeper',
      'connected reload',
      'disconnected reload',
    ])
    f.mosquitto.reload('of the bridge')
    await eventually(() => f.bridge())
  })

  it('while the bridge is silent the plugin refuses new devices, serves connected ones, and recovers', async () => {
    const bridge = await f.bridge()
    await bridge.listen('ota/device/progress/+')
    const connected = await f.device('connected')
    f.users.set('late', '')
    f.setSilent(true)
    for (let tries = 0; tries < 5; tries++) await expect(f.connect('late')).rejects.toThrow()
    await connected.say('ota/device/progress', 'still served')
    await until('the message', () => bridge.heard.length === 1)
    f.setSilent(false)
    // After several unanswered questions the plugin asks nothing for a second.
    await eventually(() => f.connect('late'))
  })

  it('while the bridge is away the plugin refuses new devices, and it tells the next bridge which are connected', async () => {
    const device = await f.device('stayed')
    await device.listen()
    await f.closeSocket()
    f.users.set('late', '')
    await expect(f.connect('late')).rejects.toThrow()
    expect(device.client.connected).toBe(true)
    f.events.length = 0
    await f.openSocket()
    await until('who is connected', () => f.events.includes(`subscribed stayed ${downlinkOf('stayed')}`))
    expect(f.events).toContain('connected stayed')
    await f.connect('late')
  })
})
