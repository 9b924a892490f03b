import { setTimeout as sleep } from 'node:timers/promises'
import type { MqttClient } from 'mqtt'
import WebSocket from 'ws'
import { eventually } from './eventually.ts'
import { type BenchFleet, startTask } from './fleet.ts'
import { type Local, signIn } from './local.ts'
import type { Player } from './player.ts'
import { connectDevice } from './publishers.ts'
import { percentiles } from './statistics.ts'
import { progressOf } from './uplink-http.ts'
import { untilHandedOver, withBridge } from './with-bridge.ts'

/** Latencies in milliseconds. */
export interface Latency {
  /** From the call that creates the task until the notice is at the device. */
  notice: ReturnType<typeof percentiles>
  /** From the device's publish until the API shows it. */
  api: ReturnType<typeof percentiles>
  /** From the device's publish until the socket of the task page shows it. */
  page: ReturnType<typeof percentiles>
}

/** Measures one device over real MQTT, with a new task in each round. */
export const latency = (local: Local, fleet: BenchFleet, rounds: number): Promise<Latency> =>
  withBridge(local, 'embedded', async (bridge) => {
    const { number, accessToken } = fleet.devices[0]!
    const device = await connectDevice(bridge.mqttUrl, accessToken)
    await device.subscribeAsync(`ota/device/inform/${accessToken}`, { qos: 1 })
    await say(device, 'inform', { id: '1', params: { version: 'v1.0.0' } })
    await untilHandedOver(bridge)
    const cookie = await signIn(local)
    const figures = { notice: [] as number[], api: [] as number[], page: [] as number[] }
    for (let round = 0; round < rounds; round++) {
      const noticed = new Promise<number>((resolve) =>
        device.once('message', () => resolve(performance.now())),
      )
      let since = performance.now()
      const task = await startTask(local, fleet, { numbers: [number] })
      figures.notice.push((await noticed) - since)
      await untilHandedOver(bridge)
      const page = await watch(local, cookie, task.id)
      since = performance.now()
      await say(device, 'progress', { id: '1', params: { step: '42', desc: 'half way' } })
      const shown = page.untilUpgrading()
      await eventually(async () => (await local.api.task(task.id)).counts.upgrading === 1)
      figures.api.push(performance.now() - since)
      figures.page.push((await shown) - since)
      page.close()
      await say(device, 'progress', { id: '1', params: { step: '100', desc: 'done' } })
      await eventually(async () => (await local.api.task(task.id)).status === 'finished')
    }
    device.end(true)
    return {
      notice: percentiles(figures.notice),
      api: percentiles(figures.api),
      page: percentiles(figures.page),
    }
  })

const say = (device: MqttClient, topic: string, body: object) =>
  device.publishAsync(`ota/device/${topic}`, JSON.stringify(body), { qos: 1 })

/** Opens the socket that the task page uses. */
async function watch({ url }: Local, cookie: string, taskId: string) {
  const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/tasks/${taskId}/live`, {
    headers: { cookie, origin: url },
  })
  const upgrading = Promise.withResolvers<number>()
  socket.on('message', (data) => {
    if (JSON.parse(String(data)).counts?.upgrading === 1) upgrading.resolve(performance.now())
  })
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
  return { untilUpgrading: () => upgrading.promise, close: () => socket.close() }
}

/** Sends `perSecond` messages a second, in batches of 100, until `stop`. */
export function load(player: Player, fleet: BenchFleet, perSecond: number): { stop(): Promise<void> } {
  let isOver = false
  const running = (async () => {
    for (let second = 0; !isOver; second++) {
      const until = performance.now() + 1000
      await player.say(progressOf(fleet, perSecond, (second % 80) + 2), 100, 2)
      await sleep(Math.max(0, until - performance.now()))
    }
  })()
  return {
    async stop() {
      isOver = true
      await running
    },
  }
}
