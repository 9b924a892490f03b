import { type ChildProcess, spawn } from 'node:child_process'
import { rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { MqttClient } from 'mqtt'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { Bridge } from '../../bridge/bridge.ts'
import { openCredentialStore } from '../../bridge/credential-store.ts'
import { type BridgeFixture, bridgeFixture, ownTopic } from './bridge-fixture.ts'
import { until } from './fake-worker.ts'

let f: BridgeFixture
let children: ChildProcess[]
beforeEach(async () => {
  f = await bridgeFixture()
  children = []
})
afterEach(async () => {
  for (const child of children) child.kill('SIGKILL')
  await f.end()
})

const SOON = { leaseWaitMs: 50 }
const closing = (client: MqttClient) => new Promise<void>((resolve) => client.once('close', () => resolve()))
const users = (...names: string[]) => {
  for (const name of names) f.worker.users.set(name, '')
}
const isRead = (bridge: Bridge) => (bridge.stats().credentials?.pages ?? 0) > 0
const granted = (client: MqttClient, filter: string) =>
  new Promise<number | undefined>((resolve) => {
    client.subscribe(filter, { qos: 1 }, (_error, _granted, packet) =>
      resolve(packet?.granted?.[0] as number | undefined),
    )
  })

it('known devices connect and listen without the Worker, also after a restart of the bridge', async () => {
  users('dev-1', 'dev-2')
  f.worker.users.set('basic', 'secret')
  f.worker.numbers.set('dev-1', 'n1').set('dev-2', 'n2')
  const first = await f.start()
  await until('the feed', () => isRead(first))
  await first.stop()
  f.worker.away = true
  const bridge = await f.start({ timing: SOON })
  const device = await f.device(bridge, 'dev-1')
  expect(await granted(device, ownTopic('dev-1'))).toBe(1)
  expect(await granted(device, 'ota/devices/inform/n1')).toBe(1)
  expect(await granted(device, 'ota/devices/inform/n2')).toBe(128)
  await f.device(bridge, 'basic', { password: 'secret' })
  await expect(f.device(bridge, 'basic', { password: 'wrong' })).rejects.toThrow(/Bad username/i)
  expect(f.worker.authRequests).toEqual([])
})

it('a storm of known and unknown devices causes hardly a question to the Worker', async () => {
  const names = Array.from({ length: 300 }, (_, at) => `dev-${at}`)
  users(...names)
  const bridge = await f.start({ maxConnections: 1_000 })
  await until('the feed', () => isRead(bridge))
  const before = f.worker.feed.pages.length
  await Promise.all(names.map((name) => f.device(bridge, name)))
  expect(f.worker.feed.pages).toHaveLength(before)
  const strangers = names.map((name) => f.device(bridge, 'dev-0', { username: `no-${name}` }))
  const outcomes = await Promise.allSettled(strangers)
  expect(outcomes.every((outcome) => outcome.status === 'rejected')).toBe(true)
  expect(f.worker.feed.pages.length - before).toBeLessThan(5)
  expect(f.worker.authRequests).toEqual([])
})

it('a new device is known a moment later', async () => {
  const bridge = await f.start()
  await until('the feed', () => isRead(bridge))
  await f.device(bridge, 'brand-new')
  expect(f.worker.authRequests).toEqual([])
})

it('the sessions of revoked devices end without a call from the Worker, and they are refused from then on', async () => {
  users('stays', 'goes', 'changes')
  f.worker.users.set('changes', 'old')
  const bridge = await f.start({ timing: { credentialsPollMs: 50 } })
  const [stays, goes] = [await f.device(bridge, 'stays'), await f.device(bridge, 'goes')]
  const changes = await f.device(bridge, 'changes', { password: 'old' })
  const closed = Promise.all([closing(goes), closing(changes)])
  f.worker.users.delete('goes')
  f.worker.users.set('changes', 'new')
  await closed
  await expect(f.device(bridge, 'stays', { username: 'goes' })).rejects.toThrow(/Bad username/i)
  await expect(f.device(bridge, 'changes', { password: 'old' })).rejects.toThrow(/Bad username/i)
  await f.device(bridge, 'changes', { password: 'new' })
  expect(stays.connected).toBe(true)
  expect(bridge.stats().credentials).toMatchObject({ revoked: 2 })
})

it('a rotated token is refused at once, even if the feed cannot be read', async () => {
  users('rotated', 'other')
  const bridge = await f.start()
  const device = await f.device(bridge, 'rotated')
  await until('the socket', () => f.worker.sockets.size === 1)
  const closed = closing(device)
  f.worker.feed.away = true
  f.worker.users.delete('rotated')
  f.worker.send({ t: 'drop', username: 'rotated' })
  await closed
  await expect(f.device(bridge, 'other', { username: 'rotated' })).rejects.toThrow(/unavailable/i)
  await f.device(bridge, 'other')
  f.worker.feed.away = false
  await expect(f.device(bridge, 'other', { username: 'rotated' })).rejects.toThrow(/Bad username/i)
})

for (const what of ['scope', 'salt']) {
  it(`known devices stay let in while the whole feed is read anew after a change of its ${what}`, async () => {
    const names = Array.from({ length: 10 }, (_, at) => `dev-${at}`)
    users(...names)
    f.worker.feed.pageSize = 3
    const bridge = await f.start({ timing: { credentialsPollMs: 50 } })
    await until('the feed', () => f.worker.feed.pages.at(-1)?.more === false)
    const left = await f.device(bridge, 'dev-9')
    const go = Promise.withResolvers<void>()
    let held = false
    f.worker.feed.beforePage = async (after) => {
      if (!after?.startsWith('3.')) return
      held = true
      await go.promise
    }
    f.worker.users.delete('dev-9')
    if (what === 'scope') f.worker.feed.scope++
    else f.worker.feed.salt = 'x'.repeat(43)
    await until('the middle of the load', () => held)
    for (const name of names.slice(0, 9)) await f.device(bridge, name)
    expect(left.connected).toBe(true)
    const closed = closing(left)
    go.resolve()
    await closed
    for (const name of names.slice(0, 9)) await f.device(bridge, name)
  })
}

it('after a kill in the middle of the feed the bridge goes on where it was', async () => {
  const names = Array.from({ length: 10 }, (_, at) => `dev-${at}`)
  users(...names)
  f.worker.feed.pageSize = 3
  let held = false
  f.worker.feed.beforePage = async (after) => {
    if (!after?.startsWith('6.')) return
    held = true
    await new Promise(() => {})
  }
  const child = spawn(process.execPath, ['bridge/main.ts'], {
    env: {
      PATH: process.env.PATH,
      WORKER_URL: f.worker.url,
      BRIDGE_KEY: f.worker.key,
      MQTT_PORT: '0',
      SPOOL_FILE: f.spoolFile,
      LOG_LEVEL: 'warn',
    },
    stdio: 'ignore',
  })
  children.push(child)
  const ended = new Promise((resolve) => child.once('exit', resolve))
  await until('the third page', () => held)
  child.kill('SIGKILL')
  await ended
  const asked: (string | undefined)[] = []
  f.worker.feed.beforePage = async (after) => void asked.push(after?.split('.')[0])
  const bridge = await f.start()
  await until('the rest', () => f.worker.feed.pages.at(-1)?.more === false)
  expect(asked).toEqual(['6', '9'])
  f.worker.away = true
  for (const name of names) await f.device(bridge, name)
})

it('the file of credentials is beside the spool unless configured otherwise', async () => {
  users('dev-1')
  const file = join(dirname(f.spoolFile), 'elsewhere', 'credentials.db')
  const bridge = await f.start({ credentialsFile: file })
  await until('the feed', () => isRead(bridge))
  await bridge.stop()
  const origin = `${f.worker.url} default`
  const store = openCredentialStore(file, origin)
  expect(store.find('dev-1')).toBeDefined()
  store.close()
  rmSync(file)
  const beside = await f.start()
  await until('the feed', () => isRead(beside))
  await beside.stop()
  const again = openCredentialStore(f.spoolFile.replace('.db', '.credentials.db'), origin)
  expect(again.find('dev-1')).toBeDefined()
  again.close()
})
