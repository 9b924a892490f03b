import { randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { backoffMs } from '../../../bridge/backoff.ts'
import { createAccess } from '../../../bridge/brokers/access.ts'
import { createGuesses } from '../../../bridge/brokers/guesses.ts'
import { packetScanner } from '../../../bridge/brokers/packet-limit.ts'
import { readConfig } from '../../../bridge/config.ts'
import { type Credentials, openCredentials } from '../../../bridge/credentials.ts'
import { topicSuffix } from '../../../bridge/identity.ts'
import { createParking } from '../../../bridge/parking.ts'
import { createPresence } from '../../../bridge/presence.ts'
import { createWorkerClock, nextUpTo } from '../../../bridge/up-to.ts'
import type { Decision, WorkerClient } from '../../../bridge/worker-client.ts'

describe('upTo', () => {
  it('upTo is undefined before the Worker’s time is known', () => {
    expect(createWorkerClock().at(1_000)).toBeUndefined()
    expect(nextUpTo(undefined, undefined, undefined)).toBeUndefined()
  })

  it('the Worker’s time is reckoned from its last response and never too late', () => {
    const clock = createWorkerClock()
    clock.learn(1_000_000, 500)
    expect(clock.at(500)).toBe(1_000_000)
    expect(clock.at(1_700.9)).toBe(1_001_200)
    expect(clock.at(400)).toBe(999_900)
  })

  it('upTo is the bound itself if the spool is empty', () => {
    expect(nextUpTo(5_000, undefined, 1_000)).toBe(5_000)
  })

  it('upTo is not later than the arrival of the oldest item in the spool', () => {
    expect(nextUpTo(5_000, { at: 3_000 }, 1_000)).toBe(3_000)
    expect(nextUpTo(2_500, { at: 3_000 }, 1_000)).toBe(2_500)
  })

  it('upTo stands still while the arrival of the oldest item is not known', () => {
    expect(nextUpTo(5_000, { at: null }, 1_000)).toBe(1_000)
    expect(nextUpTo(5_000, { at: null }, undefined)).toBeUndefined()
  })

  it('upTo stands still until the broker has handed over its backlog', () => {
    expect(nextUpTo(undefined, undefined, 1_000)).toBe(1_000)
  })

  it('upTo never goes back', () => {
    expect(nextUpTo(900, undefined, 1_000)).toBe(1_000)
    expect(nextUpTo(5_000, { at: 800 }, 1_000)).toBe(1_000)
  })

  it('an upTo that a wrong clock of the Worker led into the future is forgotten', () => {
    expect(nextUpTo(100_000, undefined, 10_000_000)).toBe(100_000)
    expect(nextUpTo(100_000, { at: 800 }, 10_000_000)).toBe(800)
    expect(nextUpTo(100_000, { at: null }, 10_000_000)).toBeUndefined()
  })
})

describe('backoff', () => {
  it('a backoff doubles up to 30 s, and its random part is at most half of it', () => {
    expect(backoffMs(1, 500, () => 0)).toBe(250)
    expect(backoffMs(1, 500, () => 1)).toBe(500)
    expect(backoffMs(4, 500, () => 1)).toBe(4_000)
    expect(backoffMs(50, 500, () => 1)).toBe(30_000)
  })

  it('a device is parked longer each time, until it is freed', () => {
    let now = 0
    const parking = createParking(1_000, () => now)
    parking.park('a')
    parking.park('b')
    expect(parking.keys()).toEqual(['a', 'b'])
    expect(parking.nextMs()).toBeLessThanOrEqual(1_000)
    now = 1_001
    expect(parking.keys()).toEqual([])
    expect(parking.nextMs()).toBe(Number.POSITIVE_INFINITY)
    parking.park('a')
    now = 2_000 // the second wait is at least 1 s
    expect(parking.keys()).toEqual(['a'])
    parking.free('a')
    expect(parking.keys()).toEqual([])
  })
})

describe('presence', () => {
  it('presence reports the first connection of a username and the end of its last', () => {
    const told: string[] = []
    const presence = createPresence({
      connected: (username) => told.push(`+${username}`),
      disconnected: (username) => told.push(`-${username}`),
    })
    presence.opened('a')
    presence.opened('a')
    presence.opened('b')
    presence.closed('a')
    expect(told).toEqual(['+a', '+b'])
    presence.closed('a')
    presence.closed('a')
    expect(told).toEqual(['+a', '+b', '-a'])
  })
})

describe('the packet scanner', () => {
  const ping = [0xc0, 0]
  const publish = (length: number) => {
    const lengthBytes = []
    let rest = length
    do {
      lengthBytes.push((rest % 128) | (rest >= 128 ? 0x80 : 0))
      rest = Math.floor(rest / 128)
    } while (rest > 0)
    return [0x32, ...lengthBytes]
  }
  const body = (length: number) => new Array(length).fill(0xff)

  it('the packet scanner passes packets within the limit, however the stream is cut', () => {
    const bytes = [...ping, ...publish(300), ...body(300), ...ping, ...publish(1_000), ...body(1_000)]
    for (const size of [1, 2, 7, 300, bytes.length]) {
      const scan = packetScanner(1_000)
      for (let at = 0; at < bytes.length; at += size) {
        expect(scan(Uint8Array.from(bytes.slice(at, at + size)))).toBe(true)
      }
    }
  })

  it('the packet scanner stops at the header of a packet over the limit', () => {
    expect(packetScanner(1_000)(Uint8Array.from([...ping, ...publish(1_001)]))).toBe(false)
    expect(packetScanner(1_000)(Uint8Array.from([0x10, 0xff, 0xff, 0xff, 0x7f]))).toBe(false)
  })

  it('the packet scanner stops at an invalid length', () => {
    expect(packetScanner(2 ** 31)(Uint8Array.from([0x10, 0x80, 0x80, 0x80, 0x80]))).toBe(false)
  })
})

describe('identity by topic suffix', () => {
  const payload = new Uint8Array()
  it('a topic suffix names the publisher', () => {
    expect(topicSuffix.read({ topic: 'ota/device/progress/dev-1', payload })).toEqual({
      username: 'dev-1',
      topic: 'ota/device/progress',
      payload,
    })
  })
  it('a topic suffix is never read from a downlink topic', () => {
    expect(topicSuffix.filters).toContain('ota/device/progress/+')
    expect(topicSuffix.filters).not.toContain('ota/device/inform/+')
    expect(topicSuffix.read({ topic: 'ota/device/inform/dev-1', payload })).toBeUndefined()
    expect(topicSuffix.read({ topic: 'ota/device/inform/up/dev-1', payload })).toMatchObject({
      username: 'dev-1',
      topic: 'ota/device/inform',
    })
  })
  it('a topic without a valid suffix names no publisher', () => {
    for (const topic of [
      'ota/device/progress',
      'ota/device/progress/',
      'ota/device/progress/a b',
      'x/dev-1',
    ]) {
      expect(topicSuffix.read({ topic, payload })).toBeUndefined()
    }
  })
})

describe('configuration', () => {
  const least = { WORKER_URL: 'https://ota.example.com/', BRIDGE_KEY: 'k' }
  it('the configuration needs only the Worker’s address and the key', () => {
    expect(readConfig(least)).toMatchObject({
      workerUrl: 'https://ota.example.com',
      bridgeName: 'default',
      host: '127.0.0.1',
      mqttPort: 1883,
      mqttUrl: undefined,
      spoolSync: 'normal',
      credit: 200,
    })
  })
  it('the configuration names every invalid or missing variable at once, but no value', () => {
    const read = () => readConfig({ WORKER_URL: 'ftp://secret', MQTT_PORT: '70000', SPOOL_SYNC: 'maybe' })
    expect(read).toThrow(/WORKER_URL[\s\S]*BRIDGE_KEY[\s\S]*MQTT_PORT[\s\S]*SPOOL_SYNC/)
    expect(read).not.toThrow(/secret/)
  })
})

describe('access before the credentials feed was read', () => {
  const directory = mkdtempSync(join(tmpdir(), 'access-'))
  const opened: Credentials[] = []
  afterEach(async () => {
    for (const credentials of opened.splice(0)) await credentials.close()
  })
  afterAll(() => rmSync(directory, { recursive: true }))

  const request = { username: 'dev-1', password: '', clientid: 'c', peerhost: '' }
  const here = () => false

  function workerThat(decide: (username: string) => Promise<Decision>) {
    const asked: string[] = []
    const ask = (username: string) => {
      asked.push(username)
      return decide(username)
    }
    const credentials = openCredentials({
      file: join(directory, `${randomUUID()}.db`),
      origin: 'here',
      pull: async () => undefined,
      pollMs: 60_000,
      backoffBaseMs: 60_000,
      log: pino({ level: 'silent' }),
    })
    opened.push(credentials)
    const worker: Pick<WorkerClient, 'authenticate' | 'maySubscribe'> = {
      authenticate: ({ username }) => ask(username),
      maySubscribe: ({ topic }) => ask(topic),
    }
    return {
      asked,
      access: createAccess(worker, credentials, createGuesses(), { concurrency: 2, cacheMs: 60_000 }),
    }
  }

  it('access remembers the Worker’s yes, but not its no', async () => {
    const { asked, access } = workerThat(async (username) => (username === 'dev-1' ? 'allow' : 'deny'))
    for (let i = 0; i < 2; i++) {
      expect(await access.connect(request, here)).toBe('allow')
      expect(await access.connect({ ...request, username: 'dev-2' }, here)).toBe('deny')
    }
    expect(asked).toEqual(['dev-1', 'dev-2', 'dev-2'])
  })

  it('access asks the Worker again for another password, and after the username was forgotten', async () => {
    const { asked, access } = workerThat(async () => 'allow')
    await access.connect(request, here)
    await access.connect({ ...request, password: 'x' }, here)
    access.forget('dev-1')
    await access.connect(request, here)
    expect(asked).toHaveLength(3)
  })

  it('access ignores a yes that was pending when the username was forgotten', async () => {
    let answer: (decision: Decision) => void = () => {}
    const { asked, access } = workerThat(() => new Promise((resolve) => (answer = resolve)))
    const connecting = access.connect(request, here)
    while (asked.length === 0) await new Promise((resolve) => setImmediate(resolve))
    access.forget('dev-1')
    answer('allow')
    expect(await connecting).toBe('unavailable')
  })

  it('access denies usernames that cannot be part of a topic without asking the Worker', async () => {
    const { asked, access } = workerThat(async () => 'allow')
    for (const username of ['', 'a b', 'a/b', '+', '#', 'x'.repeat(65)]) {
      expect(await access.connect({ ...request, username }, here)).toBe('deny')
    }
    expect(asked).toEqual([])
  })

  it('access grants a device’s own topic, asks the Worker about a number’s, and denies all others', async () => {
    const { asked, access } = workerThat(async (topic) =>
      topic === 'ota/devices/inform/n1' ? 'allow' : 'deny',
    )
    const subscribe = (topic: string) => access.subscribe({ username: 'dev-1', clientid: 'c', topic }, here)
    expect(await subscribe('ota/device/inform/dev-1')).toBe('allow')
    expect(await subscribe('ota/devices/inform/n1')).toBe('allow')
    expect(await subscribe('ota/devices/inform/n2')).toBe('deny')
    expect(asked).toEqual(['ota/devices/inform/n1', 'ota/devices/inform/n2'])
    for (const topic of ['#', '+/+/+/+', 'ota/device/inform/dev-2', 'ota/device/inform/+', '$SYS/#']) {
      expect(await subscribe(topic)).toBe('deny')
    }
    expect(await subscribe('$share/g/ota/device/inform/dev-1')).toBe('deny')
    expect(asked).toHaveLength(2)
  })

  it('access asks the Worker at most as many questions at once as configured', async () => {
    let running = 0
    let most = 0
    const { access } = workerThat(async () => {
      most = Math.max(most, ++running)
      await new Promise((resolve) => setImmediate(resolve))
      running--
      return 'allow'
    })
    await Promise.all(
      Array.from({ length: 20 }, (_, at) => access.connect({ ...request, username: `d${at}` }, here)),
    )
    expect(most).toBe(2)
  })
})
