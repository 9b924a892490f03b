import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { topicSuffix } from '../../bridge/identity.ts'
import { until } from './fake-worker.ts'
import { hasMosquitto } from './mosquitto.ts'
import { type MosquittoFixture, mosquittoFixture } from './mosquitto-fixture.ts'
import { publishPacket, rawClient } from './raw-mqtt.ts'
import { downlinkOf, type MqttDevice } from './system-device.ts'

const AT_ONCE = 50
const NOISE = 2_000
const HONEST = 20
const NOT_AUTHORIZED = 5

describe.skipIf(!hasMosquitto())('shares in Mosquitto', () => {
  let f: MosquittoFixture
  beforeAll(async () => {
    f = await mosquittoFixture([
      'plugin_opt_device_messages_per_minute 1',
      `plugin_opt_device_messages_at_once ${AT_ONCE}`,
      'plugin_opt_device_requests_per_minute 1',
      'plugin_opt_device_requests_at_once 10',
      'plugin_opt_device_connects_per_minute 1',
      'plugin_opt_device_connects_at_once 12',
      'plugin_opt_device_connections 4',
    ])
  })
  beforeEach(() => {
    f.events.length = 0
  })
  afterAll(() => f.end())

  const heardOf = (bridge: { heard: { topic: string }[] }, username: string) =>
    bridge.heard.filter(({ topic }) => topic.endsWith(`/${username}`)).length

  it.each([
    ['messages', 'ota/device/progress', AT_ONCE],
    ['requests', 'ota/device/request', 10],
  ])(
    'a device that floods with %s is cut off after its share and refused for a while, and every message of the others arrives',
    async (share, topic, atOnce) => {
      const bridge = await f.bridge()
      await bridge.listen([...topicSuffix.filters])
      const username = `noisy-${share}`
      f.users.set(username, '')
      const noisy = rawClient(f.mosquitto.port, { clientId: username, username })
      expect(await noisy.connack).toBe(0)
      for (let n = 1; n <= NOISE; n++) noisy.socket.write(publishPacket(n, topic, '{"step":1}'))
      for (let n = 0; n < HONEST; n++) {
        const honest = await f.device(`honest-${share}-${n}`)
        for (const step of [1, 2, 3]) await honest.progress(step)
      }
      await until('the end of the noise', noisy.isClosed)
      await until('the share of the noise', () => heardOf(bridge, username) >= atOnce)
      await until('all others', () => heardOf(bridge, `honest-${share}-${HONEST - 1}`) === 3)
      for (let n = 0; n < HONEST; n++) expect(heardOf(bridge, `honest-${share}-${n}`)).toBe(3)
      expect(heardOf(bridge, username)).toBeLessThan(atOnce + 3)
      const again = rawClient(f.mosquitto.port, { clientId: username, username })
      expect(await again.connack).toBe(NOT_AUTHORIZED)
      await until('the bridge to be told', () => f.events.includes(`over ${share} ${username}`))
    },
  )

  it('one token holds only so many connections, of which the newest work', async () => {
    const all: MqttDevice[] = []
    for (let n = 0; n < 10; n++) all.push(await f.device('greedy', { clientId: `greedy-${n}` }))
    await until('the older to be closed', () => all.filter(({ client }) => client.connected).length === 4)
    expect(all.slice(-4).every(({ client }) => client.connected)).toBe(true)
    await all.at(-1)!.progress(1)
  })

  it('a token that connects too often is refused, and no other is', async () => {
    f.users.set('hasty', '')
    const codes: (number | undefined)[] = []
    for (let n = 0; n < 14; n++) {
      const client = rawClient(f.mosquitto.port, { clientId: 'hasty', username: 'hasty' })
      codes.push(await client.connack)
      client.socket.destroy()
    }
    expect(codes).toEqual([...Array(12).fill(0), NOT_AUTHORIZED, NOT_AUTHORIZED])
    await (await f.device('patient')).progress(1)
    await until('the bridge to be told', () => f.events.includes('over connections hasty'))
  })

  it('a device that floods with subscriptions is refused them after its share', async () => {
    const device = await f.device('subscriber')
    const granted: number[] = []
    for (let n = 0; n < AT_ONCE + 5; n++) granted.push((await device.listen())[0]!)
    expect(granted.filter((qos) => qos === 1)).toHaveLength(AT_ONCE)
    const other = await f.device('other')
    expect(await other.listen(downlinkOf('other'))).toEqual([1])
  })

  it('wrong passwords of an address are soon refused unverified, and its other devices are let in', async () => {
    f.users.set('guessed', 'right')
    f.users.set('neighbour', 'its own')
    const before = f.verified()
    for (let n = 0; n < 50; n++) {
      await expect(f.connect('guessed', { password: `guess ${n}` })).rejects.toThrow()
    }
    expect(f.verified() - before).toBeLessThan(10)
    await f.connect('neighbour', { password: 'its own' })
    await f.device('a-token')
  })
})
