import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectAsync } from 'mqtt'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Bridge } from '../../bridge/bridge.ts'
import { type BridgeFixture, bridgeFixture } from './bridge-fixture.ts'
import { type Certificates, makeCertificates } from './certificates.ts'
import { until } from './fake-worker.ts'
import { hasMosquitto } from './mosquitto.ts'
import { type PlainMosquitto, startPlainMosquitto } from './plain-mosquitto.ts'

const hasOpenssl = spawnSync('openssl', ['version']).status === 0
if (!hasOpenssl && process.env.CI) throw new Error('openssl is missing')
if (!hasOpenssl) console.warn('openssl is missing: the tests of TLS to a joined broker are SKIPPED.')

describe.skipIf(!hasMosquitto() || !hasOpenssl)('the bridge’s own login at a broker', () => {
  let f: BridgeFixture
  let directory: string
  let mosquitto: PlainMosquitto
  let own: Certificates
  let client: ReturnType<Certificates['issue']>
  beforeEach(async () => {
    f = await bridgeFixture()
    directory = mkdtempSync(join(tmpdir(), 'login-'))
    own = makeCertificates(directory, 'own')
    client = own.issue('bridge')
    const server = own.issue('server')
    setPassword('of the bridge')
    mosquitto = await startPlainMosquitto(directory, [
      `cafile ${own.caFile}`,
      `certfile ${server.certFile}`,
      `keyfile ${server.keyFile}`,
      'require_certificate true',
      'allow_anonymous false',
      `password_file ${accounts()}`,
    ])
  })
  afterEach(async () => {
    await f.end()
    await mosquitto.kill()
    rmSync(directory, { recursive: true })
  })
  const accounts = () => join(directory, 'accounts')
  const setPassword = (password: string) =>
    execFileSync('mosquitto_passwd', ['-b', '-c', accounts(), 'edge-ota-bridge', password])

  const login = () => ({
    username: 'edge-ota-bridge',
    password: 'of the bridge',
    ca: own.ca,
    cert: client.cert,
    key: client.key,
  })
  const start = (mqttLogin: object) =>
    f.start({
      mqttUrl: `mqtts://127.0.0.1:${mosquitto.port}`,
      mqttLogin,
      health: { host: '127.0.0.1', port: 0 },
      timing: { upToIntervalMs: 50 },
    })
  const brokerOf = async (bridge: Bridge) => {
    const response = await fetch(`http://127.0.0.1:${bridge.healthPort}/healthz`)
    return ((await response.json()) as { broker: { state: string; reason?: string } }).broker
  }
  async function reasonOf(bridge: Bridge): Promise<string> {
    for (;;) {
      const { state, reason } = await brokerOf(bridge)
      expect(state).toBe('away')
      if (reason !== undefined) return reason
    }
  }

  it('the bridge logs in by certificate and password over TLS, with a CA of its own', async () => {
    const bridge = await start(login())
    // The marker came back, so all subscriptions are made.
    await until('upTo', () => f.worker.batches.some(({ upTo }) => upTo !== undefined))
    const { username, password, ...certificates } = login()
    const device = await connectAsync(`mqtts://127.0.0.1:${mosquitto.port}`, {
      username,
      password,
      ...certificates,
      reconnectPeriod: 0,
    })
    await device.publishAsync('ota/device/progress/dev-1', '{"step":"1"}', { qos: 1 })
    await until('a message', () => f.worker.taken.some((item) => item.kind === 'message'))
    device.end(true)
    expect((await brokerOf(bridge)).state).toBe('ok')
  })

  it("the bridge refuses a broker's certificate of another CA", async () => {
    const other = makeCertificates(directory, 'other')
    const bridge = await start({ ...login(), ca: other.ca })
    expect(await reasonOf(bridge)).toMatch(/SELF_SIGNED|UNABLE_TO|CERT/)
    expect(bridge.stats().broker).toMatchObject({ connects: 0 })
  })

  it('the bridge tries its login again after a refusal, without a restart', async () => {
    setPassword('of an earlier time')
    mosquitto.reload()
    const bridge = await start(login())
    expect(await reasonOf(bridge)).toMatch(/^CONNACK \d+$/)
    setPassword('of the bridge')
    mosquitto.reload()
    await until('the broker', () => bridge.stats().broker!.connects === 1)
  })
})
