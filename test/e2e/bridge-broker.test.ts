import { connect as tcpConnect } from 'node:net'
import type { MqttClient } from 'mqtt'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { BatchItem } from '../../src/protocol/bridge.ts'
import { type BridgeFixture, bridgeFixture, notice, ownTopic, textOf } from './bridge-fixture.ts'
import { until } from './fake-worker.ts'

let f: BridgeFixture
beforeEach(async () => {
  f = await bridgeFixture()
})
afterEach(() => f.end())

const PROGRESS = 'ota/device/progress'
const qos1 = { qos: 1 as const }
const presence = (items: BatchItem[]) =>
  items.flatMap((item) =>
    item.kind === 'presence' ? [item.event + ('username' in item ? ` ${item.username}` : '')] : [],
  )
const closing = (client: MqttClient) =>
  new Promise<void>((resolve) => {
    client.once('close', () => resolve())
  })
/** The granted QoS of each filter; 128 is a refusal. */
const granted = (client: MqttClient, filters: string[]) =>
  new Promise<number[]>((resolve) => {
    client.subscribe(filters, qos1, (_error, _granted, packet) =>
      resolve((packet?.granted ?? []) as number[]),
    )
  })

for (const feed of ['with', 'without']) {
  it(`the embedded broker refuses devices that the Worker does not know, ${feed} the feed of credentials`, async () => {
    f.worker.feed.away = feed === 'without'
    const bridge = await f.start()
    f.worker.users.set('dev-1', '')
    f.worker.users.set('basic', 'secret')
    await expect(f.device(bridge, 'dev-1', { password: 'wrong' })).rejects.toThrow(
      /Bad username or password/i,
    )
    await expect(f.device(bridge, 'basic')).rejects.toThrow(/Bad username or password/i)
    await f.device(bridge, 'basic', { password: 'secret' })
    await f.device(bridge, 'dev-1')
    const asked = f.worker.authRequests.length
    for (const username of ['a/b', '#', 'x'.repeat(65)]) {
      await expect(f.device(bridge, username)).rejects.toThrow(/Bad username or password/i)
    }
    expect(f.worker.authRequests).toHaveLength(asked)
    const first = { username: 'dev-1', password: 'wrong', peerhost: '127.0.0.1' }
    expect(f.worker.authRequests.slice(0, 1)).toMatchObject(feed === 'with' ? [] : [first])
  })

  it(`the embedded broker lets known devices in while the Worker is away, and others get "unavailable", ${feed} the feed`, async () => {
    f.worker.feed.away = feed === 'without'
    const bridge = await f.start()
    const first = await f.device(bridge, 'dev-1')
    await first.endAsync()
    f.worker.away = true
    await f.device(bridge, 'dev-1')
    await expect(f.device(bridge, 'dev-2')).rejects.toThrow(/unavailable/i)
  })
}

it("the embedded broker grants a device's own downlink topics and nothing else, filter by filter", async () => {
  const bridge = await f.start()
  f.worker.numbers.set('dev-1', 'n1')
  const device = await f.device(bridge, 'dev-1')
  const filters = {
    [ownTopic('dev-2')]: 128,
    'ota/devices/inform/n2': 128,
    'ota/device/inform/+': 128,
    'ota/#': 128,
    '#': 128,
    '$SYS/#': 128,
    [`$share/g/${ownTopic('dev-1')}`]: 128,
    [PROGRESS]: 128,
    [ownTopic('dev-1')]: 1,
    'ota/devices/inform/n1': 1,
  }
  expect(await granted(device, Object.keys(filters))).toEqual(Object.values(filters))
  const subscribed = () =>
    f.worker.taken.filter((item) => item.kind === 'presence' && item.event === 'subscribed')
  await until('both told', () => subscribed().length === 2)
  expect(subscribed().map((item) => 'topic' in item && item.topic)).toEqual([
    ownTopic('dev-1'),
    'ota/devices/inform/n1',
  ])
  expect(device.connected).toBe(true)
})

it('a refused filter is not stored with a session, so no message of another device waits for it', async () => {
  const bridge = await f.start()
  const spy = await f.device(bridge, 'spy', { clientId: 'c', clean: false })
  expect(await granted(spy, [ownTopic('spy'), ownTopic('dev-1'), 'ota/#'])).toEqual([1, 128, 128])
  await spy.endAsync()
  const device = await f.device(bridge, 'dev-1')
  await device.subscribeAsync(ownTopic('dev-1'), qos1)
  await until('the socket', () => f.worker.sockets.size === 1)
  f.worker.notices(notice(1, 'dev-1'))
  await until('taken', () => f.worker.taken.some((item) => item.kind === 'taken'))
  const heard: string[] = []
  await f.device(bridge, 'spy', { clientId: 'c', clean: false }, heard)
  f.worker.notices(notice(2, 'spy'))
  await until('its own', () => heard.length > 0)
  expect(heard).toEqual([notice(2, 'spy').payload])
})

it('a device that publishes on another topic is disconnected, and nothing of it is spooled', async () => {
  const bridge = await f.start()
  for (const topic of [ownTopic('dev-1'), 'ota/device/progress/dev-1', '$SYS/x', 'anything']) {
    const device = await f.device(bridge, 'dev-1')
    const closed = closing(device)
    device.publish(topic, '{}', qos1)
    await closed
  }
  expect(bridge.stats().broker).toMatchObject({ refusedPublishes: 4 })
  expect(f.worker.taken.filter((item) => item.kind === 'message')).toEqual([])
})

it('a message of 64 KiB is taken; a device that sends more is disconnected', async () => {
  const bridge = await f.start()
  const device = await f.device(bridge, 'dev-1')
  await device.publishAsync(PROGRESS, 'x'.repeat(64 * 1024), qos1)
  const closed = closing(device)
  device.publish(PROGRESS, 'x'.repeat(64 * 1024 + 1), qos1)
  await closed
  await until('the good one', () => f.worker.taken.some((item) => item.kind === 'message'))
  const giant = await f.device(bridge, 'dev-1')
  const giantClosed = closing(giant)
  giant.publish(PROGRESS, 'x'.repeat(10_000_000), qos1)
  await giantClosed
  expect(bridge.stats().broker).toMatchObject({ refusedPublishes: 1, tooLarge: 1 })
  expect(f.worker.taken.filter((item) => item.kind === 'message')).toHaveLength(1)
})

it('a connection that announces a giant packet before it has signed in is closed at once', async () => {
  const bridge = await f.start()
  const socket = tcpConnect(bridge.mqttPort!, '127.0.0.1')
  const closed = new Promise((resolve) => socket.once('close', resolve))
  socket.on('error', () => {})
  socket.write(Uint8Array.from([0x10, 0xff, 0xff, 0xff, 0x7f]))
  await closed
  expect(bridge.stats().broker).toMatchObject({ tooLarge: 1 })
})

it('the embedded broker takes QoS 0 and 2, ignores the retain flag, and survives any bytes', async () => {
  const bridge = await f.start()
  const device = await f.device(bridge, 'dev-1')
  await device.publishAsync(PROGRESS, 'zero', { qos: 0, retain: true })
  await device.publishAsync('ota/device/infrom', Buffer.from([0, 255, 1]), { qos: 2 })
  const messages = () => f.worker.taken.filter((item) => item.kind === 'message')
  await until('both', () => messages().length === 2)
  expect(textOf(messages()[0] as { payload: string })).toBe('zero')
  expect(messages()[1]).toMatchObject({ topic: 'ota/device/infrom', payload: 'AP8B' })
})

it('only the first and the last connection of a username change its presence', async () => {
  const bridge = await f.start()
  const one = await f.device(bridge, 'dev-1')
  const two = await f.device(bridge, 'dev-1')
  await one.endAsync()
  await two.publishAsync(PROGRESS, '1', qos1)
  await until('the message', () => f.worker.taken.some((item) => item.kind === 'message'))
  expect(presence(f.worker.taken)).toEqual(['reset', 'connected dev-1'])
  await two.endAsync()
  await until('the end', () => presence(f.worker.taken).length === 3)
  expect(presence(f.worker.taken)).toEqual(['reset', 'connected dev-1', 'disconnected dev-1'])
})

it('devices with the same client id are kept apart, and a device may take over its own session', async () => {
  const bridge = await f.start()
  const one = await f.device(bridge, 'dev-1', { clientId: 'same' })
  const other = await f.device(bridge, 'dev-2', { clientId: 'same' })
  await one.publishAsync(PROGRESS, '1', qos1)
  await other.publishAsync(PROGRESS, '2', qos1)
  const closed = closing(one)
  const again = await f.device(bridge, 'dev-1', { clientId: 'same' })
  await closed
  await again.publishAsync(PROGRESS, '3', qos1)
  await until('the third', () => f.worker.taken.filter((item) => item.kind === 'message').length === 3)
  expect(presence(f.worker.taken)).toEqual(['reset', 'connected dev-1', 'connected dev-2'])
  expect(other.connected).toBe(true)
})

it('the will of a device that vanished is spooled if its topic is allowed', async () => {
  const bridge = await f.start()
  const will = (topic: string) => ({ will: { topic, payload: Buffer.from('gone'), ...qos1, retain: false } })
  const good = await f.device(bridge, 'dev-1', will(PROGRESS))
  const bad = await f.device(bridge, 'dev-2', will(ownTopic('dev-1')))
  bad.stream.destroy()
  good.stream.destroy()
  const messages = () => f.worker.taken.filter((item) => item.kind === 'message')
  await until('both gone', () => presence(f.worker.taken).length === 5)
  await until('the will', () => messages().length === 1)
  expect(messages()).toMatchObject([{ username: 'dev-1', topic: PROGRESS }])
})

it('connections beyond the limit are closed', async () => {
  const bridge = await f.start({ maxConnections: 2 })
  const devices = [await f.device(bridge, 'dev-1'), await f.device(bridge, 'dev-2')]
  const third = tcpConnect(bridge.mqttPort!, '127.0.0.1')
  third.on('error', () => {})
  await new Promise((resolve) => third.once('close', resolve))
  expect(devices.every((device) => device.connected)).toBe(true)
})

it('the bridge stops even if connections are open that never signed in', async () => {
  const bridge = await f.start()
  const socket = tcpConnect(bridge.mqttPort!, '127.0.0.1')
  await new Promise((resolve) => socket.once('connect', resolve))
  const closed = new Promise((resolve) => socket.once('close', resolve))
  await bridge.stop()
  await closed
})
