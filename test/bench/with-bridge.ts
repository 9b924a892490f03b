import { mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { startMosquitto } from '../e2e/mosquitto.ts'
import { type BridgeProcess, startBridge } from './bridge-process.ts'
import type { Local } from './local.ts'
import { PLUGIN_WITHOUT_SHARES, WITHOUT_SHARES } from './without-shares.ts'

export type BrokerName = 'embedded' | 'mosquitto'

/** Runs `use` with a real bridge: with its own broker, or joined to a Mosquitto with the plugin. */
export async function withBridge<T>(
  local: Local,
  broker: BrokerName,
  use: (bridge: BridgeProcess) => Promise<T>,
  { withoutShares = false } = {},
): Promise<T> {
  const directory = mkdtempSync(join(local.directory, 'bridge-'))
  const socket = join(directory, 'plugin.sock')
  const mosquitto =
    broker === 'mosquitto'
      ? await startMosquitto({
          directory: join(directory, 'mosquitto'),
          socket,
          bridgePassword: 'bench',
          persistence: true,
          more: withoutShares ? PLUGIN_WITHOUT_SHARES : [],
        })
      : undefined
  const end = () => {
    if (mosquitto && mosquitto.pid() > 0) process.kill(mosquitto.pid(), 'SIGKILL')
  }
  process.on('exit', end)
  const joined = mosquitto && {
    MQTT_URL: mosquitto.url,
    MQTT_USERNAME: mosquitto.login.username,
    MQTT_PASSWORD: mosquitto.login.password,
    PLUGIN_SOCKET: socket,
  }
  const bridge = await startBridge({ url: local.url, key: local.bridgeKey }, directory, {
    HEALTH_HOST: '127.0.0.1',
    ...(withoutShares && WITHOUT_SHARES),
    ...joined,
  })
  try {
    return await use(bridge)
  } finally {
    await bridge.kill()
    await mosquitto?.kill()
    process.off('exit', end)
    rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
  }
}

/** Waits until the spool of the bridge is empty. */
export async function untilHandedOver(bridge: BridgeProcess): Promise<void> {
  while ((await bridge.figure('edge_ota_bridge_spool_depth')) > 0) await sleep(10)
}
