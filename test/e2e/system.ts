import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { IClientOptions } from 'mqtt'
import { pino } from 'pino'
import { inject, vi } from 'vitest'
import { createTestHarness } from 'wrangler'
import { type Bridge, startBridge } from '../../bridge/bridge.ts'
import type { BridgeConfig } from '../../bridge/config.ts'
import { hashKey, newKey } from '../../src/auth/key.ts'
import type { Env } from '../../src/common/env.ts'
import { newId } from '../../src/common/ids.ts'
import type { Role } from '../../src/http/principal.ts'
import { startMosquitto } from './mosquitto.ts'
import { connectDevice, type MqttDevice } from './system-device.ts'
import { type Call, createOperator, type Operator } from './system-operator.ts'

export type System = Awaited<ReturnType<typeof startSystem>>

/** Polls until the expectations hold; on a timeout it throws their last error. */
export const eventually = <T>(check: () => T | Promise<T>, timeout = 60_000): Promise<T> =>
  vi.waitFor(check, { timeout, interval: 50 })

/**
 * Starts the whole system: the Worker with D1, R2 and objects in workerd, and the real bridge, with its own broker or
 * joined to a Mosquitto with the plugin.
 */
export async function startSystem(
  options: {
    withBridge: boolean
    /** False saves a second start: only the running Worker can be told where its bucket is. */
    withDownloads?: boolean
    vars?: Record<string, string>
    mosquitto?: boolean
  } = { withBridge: true },
) {
  const directory = mkdtempSync(join(tmpdir(), 'system-'))
  const pluginSocket = join(directory, 'plugin.sock')
  const mosquitto = options.mosquitto
    ? await startMosquitto({
        directory: join(directory, 'mosquitto'),
        socket: pluginSocket,
        bridgePassword: 'of the bridge',
        persistence: true,
      })
    : undefined
  const spoolFile = join(directory, 'spool.db')
  const built = { configPath: 'wrangler.toml', prebuiltWorkerDir: inject('prebuiltWorkerDir') }
  const server = createTestHarness({ workers: [{ ...built, vars: options.vars ?? {} }] })
  const { url } = await server.listen()
  let generation = 0

  /** Restarts the Worker's process with the same storage and address. */
  async function restartWorker(): Promise<void> {
    // The harness restarts the process only if a setting changes.
    generation++
    const vars = {
      ...options.vars,
      R2_S3_ENDPOINT: new URL('/cdn-cgi/local/r2/s3', url).href,
      DOWNLOAD_TTL_SECONDS: String(86_400 - generation),
    }
    await server.update({ workers: [{ ...built, vars }] })
  }
  if (options.withDownloads ?? true) await restartWorker()
  const worker = server.getWorker<Env>()
  await worker.applyD1Migrations('DB')
  const { DB } = await worker.getEnv()

  async function insertKey(role: Role, tenantId: string | null, bridge: string | null): Promise<string> {
    const key = newKey()
    await DB.prepare(
      'INSERT INTO api_keys (id, tenant_id, name, role, bridge, hash, created_at) VALUES (?, ?, ?, ?, ?, ?, ?)',
    )
      .bind(newId('key'), tenantId, role, role, bridge, await hashKey(key), Date.now())
      .run()
    return key
  }

  const answers: { call: string; status: number }[] = []
  /** Returns a function that calls the API with this `Authorization` header. */
  const callAs =
    (authorization?: string): Call =>
    async (method, path, body, headers = {}) => {
      const isRaw = body === undefined || typeof body === 'string' || body instanceof Uint8Array
      const response = await fetch(new URL(path, url), {
        method,
        headers: {
          ...(authorization !== undefined && { authorization }),
          ...(!isRaw && { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body !== undefined && { body: (isRaw ? body : JSON.stringify(body)) as BodyInit }),
      })
      answers.push({ call: `${method} ${path}`, status: response.status })
      const text = await response.text()
      const isJson = response.headers.get('content-type')?.includes('json')
      return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text }
    }

  /** Makes a new tenant and returns its admin's API. */
  async function newTenant(): Promise<Operator & { key: string }> {
    const tenantId = newId('ten')
    // On a shared bridge a number is one device's: those of earlier tests make room.
    await DB.prepare('UPDATE devices SET number = id').run()
    await DB.prepare('INSERT INTO tenants (id, name, created_at) VALUES (?, ?, ?)')
      .bind(tenantId, 'a tenant', Date.now())
      .run()
    const key = await insertKey('admin', tenantId, null)
    return { ...createOperator(callAs(`Bearer ${key}`)), key }
  }

  const bridgeKey = await insertKey('bridge', null, 'default')
  const config: BridgeConfig = {
    workerUrl: url.origin,
    bridgeKey,
    bridgeName: 'default',
    host: '127.0.0.1',
    mqttPort: 0,
    spoolFile,
    spoolSync: 'normal',
    spoolMaxBytes: 100e6,
    credit: 200,
    maxConnections: 1000,
    authConcurrency: 10,
    logLevel: 'silent',
    timing: { backoffBaseMs: 50 },
    ...(mosquitto && { mqttUrl: mosquitto.url, mqttLogin: mosquitto.login, pluginSocket }),
  }
  const mqttUrl = () => mosquitto?.url ?? `mqtt://127.0.0.1:${config.mqttPort}`
  let bridge: Bridge | undefined
  const devices: MqttDevice[] = []

  /** Starts a bridge with the spool and port of the one before. */
  async function newBridge(overrides: Partial<BridgeConfig> = {}): Promise<Bridge> {
    bridge = await startBridge(
      { ...config, ...overrides },
      pino({ level: process.env.BRIDGE_TEST_LOG ?? 'silent' }),
    )
    config.mqttPort = bridge.mqttPort ?? config.mqttPort
    return bridge
  }
  if (options.withBridge) await newBridge()

  return {
    url,
    /** A directory for files of the test; `close` removes it. */
    directory,
    worker,
    bridgeKey,
    /** All answers of the Worker to calls of the test. */
    answers,
    callAs,
    newTenant,
    restartWorker,
    newBridge,
    bridge: () => bridge!,
    mqttUrl,
    mosquitto,
    /** Errors that the Worker logged; no input of a client may cause one. */
    errors: () => server.getLogs().filter(({ level }) => level === 'error'),
    /** Connects a device, with an empty password unless the options have one. */
    async connect(username: string, options?: IClientOptions): Promise<MqttDevice> {
      const device = await connectDevice(mqttUrl(), username, options)
      devices.push(device)
      return device
    },
    async close(): Promise<void> {
      for (const { client } of devices) client.end(true)
      await bridge?.stop()
      await mosquitto?.kill()
      await server.close()
      rmSync(directory, { recursive: true })
    },
  }
}
