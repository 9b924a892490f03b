import { afterEach, beforeEach, expect, it } from 'vitest'
import type { Bridge } from '../../bridge/bridge.ts'
import { type BridgeFixture, bridgeFixture } from './bridge-fixture.ts'
import { until } from './fake-worker.ts'

let f: BridgeFixture
beforeEach(async () => {
  f = await bridgeFixture()
})
afterEach(() => f.end())

const start = (more = {}) => f.start({ health: { host: '127.0.0.1', port: 0 }, ...more })
const ask = async (bridge: Bridge, path = '/healthz') => {
  const response = await fetch(`http://127.0.0.1:${bridge.healthPort}${path}`)
  return { status: response.status, text: await response.text() }
}
const health = async (bridge: Bridge) => {
  const { status, text } = await ask(bridge)
  return { httpStatus: status, ...JSON.parse(text) }
}
/** Polls /healthz until the report satisfies `isSo`. */
async function becomes(bridge: Bridge, isSo: (report: Awaited<ReturnType<typeof health>>) => boolean) {
  for (let tries = 0; ; tries++) {
    const report = await health(bridge)
    if (isSo(report)) return report
    if (tries > 200) throw new Error(`waited in vain, last: ${JSON.stringify(report)}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

it('/healthz gives the state of each part, and since when', async () => {
  const bridge = await start()
  const report = await becomes(bridge, ({ status, spool }) => status === 'ok' && spool.depth === 0)
  expect(report).toMatchObject({
    httpStatus: 200,
    broker: { state: 'ok', since: expect.stringMatching(/^\d{4}-.*Z$/) },
    worker: { state: 'ok', lastAnswerAt: expect.stringMatching(/^\d{4}-.*Z$/) },
    hub: { state: 'ok', active: true },
    spool: { state: 'ok', depth: 0, maxBytes: 100e6 },
  })
})

it('/healthz is "degraded" with 200 while the Worker is away and messages are kept for it', async () => {
  const bridge = await start()
  const device = await f.device(bridge, 'dev-1')
  f.worker.away = true
  for (const socket of f.worker.sockets) socket.terminate()
  await device.publishAsync('ota/device/progress', '{"step":1}', { qos: 1 })
  const report = await becomes(bridge, ({ worker, hub }) => worker.state === 'away' && hub.state === 'away')
  expect(report).toMatchObject({ httpStatus: 200, status: 'degraded' })
  expect(report.spool.depth).toBeGreaterThan(0)
  f.worker.away = false
  await becomes(bridge, ({ status, spool }) => status === 'ok' && spool.depth === 0)
})

it('/healthz says that the spool is full', async () => {
  const bridge = await start({ spoolMaxBytes: 2_000 })
  const device = await f.device(bridge, 'dev-1')
  f.worker.away = true
  for (let n = 0; n < 30; n++) device.publish('ota/device/progress', `{"step":1,"desc":"${n}"}`, { qos: 1 })
  expect(await becomes(bridge, ({ spool }) => spool.state === 'full')).toMatchObject({ status: 'degraded' })
})

it('/metrics has the figures for Prometheus without the name of a device', async () => {
  const bridge = await start()
  const device = await f.device(bridge, 'dev-secret-1')
  await device.publishAsync('ota/device/progress', '{"step":1}', { qos: 1 })
  await until('the message', () => f.worker.taken.some(({ kind }) => kind === 'message'))
  await until('nothing is left', () => bridge.stats().spool!.depth === 0)
  const { status, text } = await ask(bridge, '/metrics')
  expect(status).toBe(200)
  const figure = (name: string) =>
    Number(
      text
        .split('\n')
        .find((line) => line.startsWith(`edge_ota_bridge_${name} `))
        ?.split(' ')[1],
    )
  expect(figure('messages_total')).toBe(1)
  expect(figure('items_total{result="taken"}')).toBeGreaterThanOrEqual(1)
  expect(figure('spool_depth')).toBe(0)
  expect(figure('connects_total{to="hub"}')).toBe(1)
  expect(figure('active')).toBe(1)
  expect(text).toContain('process_resident_memory_bytes')
  expect(text).not.toContain('dev-secret-1')
  // Reading the figures changes none of them.
  expect(
    (await ask(bridge, '/metrics')).text.split('\n').filter((line) => /messages_total \d/.test(line)),
  ).toEqual(['edge_ota_bridge_messages_total 1'])
})

it('the health port answers no other path or method', async () => {
  const bridge = await start()
  expect((await ask(bridge, '/')).status).toBe(404)
  const posted = await fetch(`http://127.0.0.1:${bridge.healthPort}/healthz`, { method: 'POST' })
  expect(posted.status).toBe(405)
})
