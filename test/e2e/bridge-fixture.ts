import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type IClientOptions, type MqttClient } from 'mqtt'
import { pino } from 'pino'
import { type Bridge, startBridge } from '../../bridge/bridge.ts'
import type { BridgeConfig } from '../../bridge/config.ts'
import type { NoticeFrame } from '../../src/protocol/bridge.ts'
import { type FakeWorker, startFakeWorker } from './fake-worker.ts'

/** A fake Worker, real bridges that use it, and real MQTT clients as devices. */
export interface BridgeFixture {
  worker: FakeWorker
  spoolFile: string
  start(overrides?: Partial<BridgeConfig>): Promise<Bridge>
  /** Connects a device; `heard` gets the payload of each message, from the first on. */
  device(bridge: Bridge, username: string, options?: IClientOptions, heard?: string[]): Promise<MqttClient>
  end(): Promise<void>
}

export async function bridgeFixture(): Promise<BridgeFixture> {
  const dir = mkdtempSync(join(tmpdir(), 'bridge-'))
  const worker = await startFakeWorker()
  const bridges: Bridge[] = []
  const devices: MqttClient[] = []
  const spoolFile = join(dir, 'spool.db')
  return {
    worker,
    spoolFile,
    async start(overrides = {}) {
      const bridge = await startBridge(
        {
          workerUrl: worker.url,
          bridgeKey: worker.key,
          bridgeName: 'default',
          host: '127.0.0.1',
          mqttPort: 0,
          spoolFile,
          spoolSync: 'normal',
          spoolMaxBytes: 100e6,
          credit: 200,
          maxConnections: 100,
          authConcurrency: 10,
          logLevel: 'silent',
          ...overrides,
          timing: { backoffBaseMs: 20, ...overrides.timing },
        },
        pino({ level: process.env.BRIDGE_TEST_LOG ?? 'silent' }),
      )
      bridges.push(bridge)
      return bridge
    },
    async device(bridge, username, options = {}, heard = []) {
      if (!worker.users.has(username)) worker.users.set(username, '')
      const client = connect(`mqtt://127.0.0.1:${bridge.mqttPort}`, {
        username,
        reconnectPeriod: 0,
        ...options,
      })
      devices.push(client)
      client.on('message', (_topic, payload) => heard.push(payload.toString()))
      await new Promise<void>((resolve, reject) => {
        client.once('connect', () => resolve())
        client.on('error', reject)
        client.once('close', () => reject(new Error('closed before it was connected')))
      })
      return client
    },
    async end() {
      for (const device of devices) device.end(true)
      for (const bridge of bridges) await bridge.stop()
      await worker.close()
      rmSync(dir, { recursive: true })
    },
  }
}

export const ownTopic = (username: string) => `ota/device/inform/${username}`

export const notice = (id: number, username: string, more: Partial<NoticeFrame> = {}): NoticeFrame => ({
  notice: { task: 'tsk_1', device: `dev_${username}`, id: String(id).padStart(10, '0') },
  username,
  topic: ownTopic(username),
  payload: JSON.stringify({ id: String(id), code: 200, params: {} }),
  expiresInSeconds: 3600,
  ...more,
})

export const textOf = (item: { payload: string }) => Buffer.from(item.payload, 'base64').toString()
