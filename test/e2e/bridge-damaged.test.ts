import { mkdirSync, openSync, readdirSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { Bridge } from '../../bridge/bridge.ts'
import { openSpool } from '../../bridge/spool.ts'
import { type BridgeFixture, bridgeFixture, notice, ownTopic, textOf } from './bridge-fixture.ts'
import { until } from './fake-worker.ts'

let f: BridgeFixture
let credentialsFile: string
beforeEach(async () => {
  f = await bridgeFixture()
  credentialsFile = f.spoolFile.replace('.db', '.credentials.db')
})
afterEach(() => f.end())

const start = () =>
  f.start({
    health: { host: '127.0.0.1', port: 0 },
    timing: { upToIntervalMs: 50, credentialsPollMs: 50 },
    // One device fills the file.
    shares: { spoolPercent: 100 },
  })
const ask = async (bridge: Bridge, path: string) => {
  const response = await fetch(`http://127.0.0.1:${bridge.healthPort}${path}`)
  return { status: response.status, text: await response.text() }
}
const messages = () => f.worker.taken.flatMap((item) => (item.kind === 'message' ? [textOf(item)] : []))
const instances = () => f.worker.credits.flatMap((frame) => (frame.t === 'hello' ? [frame.instance] : []))

/** A device's whole way: it connects, hears a notice and answers. */
async function serves(bridge: Bridge, username: string): Promise<void> {
  const heard: string[] = []
  const device = await f.device(bridge, username, {}, heard)
  await device.subscribeAsync(ownTopic(username), { qos: 1 })
  f.worker.notices(notice(f.worker.taken.length + 1, username))
  await until('the notice', () => heard.length === 1)
  await device.publishAsync('ota/device/progress', `{"by":"${username}"}`, { qos: 1 })
  await until('the answer', () => messages().includes(`{"by":"${username}"}`))
}

it.each([
  ['garbage', (file: string) => writeFileSync(file, 'garbage'.repeat(5_000))],
  ['nothing', (file: string) => writeFileSync(file, '')],
  ['a folder', (file: string) => mkdirSync(file)],
])('a bridge that finds %s instead of its files says so, keeps it, and serves', async (_what, damage) => {
  damage(f.spoolFile)
  damage(credentialsFile)
  const bridge = await start()
  await serves(bridge, 'dev-1')
  const { status, text } = await ask(bridge, '/healthz')
  const report = JSON.parse(text)
  expect([status, report.status, report.spool.state, report.credentials.state]).toEqual([
    200,
    'degraded',
    'replaced',
    'replaced',
  ])
  const kept = readdirSync(dirname(f.spoolFile)).filter((name) => name.includes('.damaged-'))
  expect([...report.credentials.damagedFiles, ...report.spool.damagedFiles]).toEqual(kept)
  expect(kept).toHaveLength(2)
  const metrics = (await ask(bridge, '/metrics')).text
  expect(metrics).toContain('edge_ota_bridge_files_damaged_total{file="spool"} 1')
  expect(metrics).toContain('edge_ota_bridge_files_damaged_total{file="credentials"} 1')
})

it('a bridge whose files are damaged while it runs goes on with new ones, under a new lease', async () => {
  const bridge = await start()
  await serves(bridge, 'dev-1')
  const device = await f.device(bridge, 'dev-2')
  f.worker.away = true
  for (const socket of f.worker.sockets) socket.terminate()
  for (let n = 0; n < 100; n++) {
    await device.publishAsync('ota/device/progress', `${n}${'x'.repeat(60_000)}`, { qos: 1 })
  }
  for (const file of [f.spoolFile, credentialsFile]) {
    const bytes = statSync(file).size - 4096
    if (bytes > 0) writeSync(openSync(file, 'r+'), Buffer.alloc(bytes, 'damage'), 0, bytes, 4096)
  }
  f.worker.away = false
  await until('the damage to be found', () => bridge.stats().spool!.damaged === 1)
  await device.publishAsync('ota/device/progress', 'after the damage', { qos: 1 })
  await until('the message', () => messages().includes('after the damage'))
  await until('the new name', () => new Set(instances()).size === 2)
  await serves(bridge, 'dev-3')
  expect(JSON.parse((await ask(bridge, '/healthz')).text).spool.state).toBe('replaced')
})

it('an item whose text was garbled on the disk becomes a dead letter and holds up no other', async () => {
  const spool = openSpool(f.spoolFile, { sync: 'normal' })
  const item = (payload: string) => ({
    kind: 'message',
    username: 'dev-1',
    topic: 'ota/device/progress',
    payload: Buffer.from(payload).toString('base64'),
  })
  const bodies = [JSON.stringify(item('before')), '\u0000garbled', JSON.stringify(item('after'))]
  spool.append(bodies.map((body) => ({ key: 'dev-1', at: null, body })))
  spool.close()
  const bridge = await start()
  await until('the others', () => messages().includes('after'))
  expect(messages()).toEqual(['before', 'after'])
  expect(bridge.stats().uplink!.dead).toBe(1)
})
