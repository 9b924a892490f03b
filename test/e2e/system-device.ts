import { connect, type IClientOptions, type MqttClient } from 'mqtt'
import { vi } from 'vitest'
import type { Notice } from '../../src/protocol/device.ts'

/** A device as its makers would write it: a real MQTT client that the test controls. */
export interface MqttDevice {
  client: MqttClient
  /** All messages that the device got. */
  heard: { topic: string; text: string }[]
  notices(): Notice[]
  /** Resolves with the notice of this number, counted from 1; rejects if it does not come. */
  notice(count: number): Promise<Notice>
  /** Subscribes; resolves with the granted QoS of each topic: 1, or 128 for a refusal. */
  listen(topic?: string | string[]): Promise<number[]>
  /** Publishes a string as it is, anything else as JSON; resolves when the broker acknowledged it. */
  say(topic: string, message: unknown): Promise<void>
  inform(version: string, more?: object): Promise<void>
  progress(...steps: number[]): Promise<void>
}

export const downlinkOf = (username: string) => `ota/device/inform/${username}`

export const TEN_STEPS = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]

/** Connects with an empty password; rejects if the broker refuses. */
export async function connectDevice(
  mqttUrl: string,
  username: string,
  options: IClientOptions = {},
): Promise<MqttDevice> {
  const client = connect(mqttUrl, { username, password: '', reconnectPeriod: 0, ...options })
  const heard: MqttDevice['heard'] = []
  client.on('message', (topic, payload) => heard.push({ topic, text: payload.toString() }))
  await new Promise<void>((resolve, reject) => {
    client.once('connect', () => resolve())
    client.on('error', reject)
    client.once('close', () => reject(new Error('closed before it was connected')))
  })
  const say = async (topic: string, message: unknown) => {
    const payload = typeof message === 'string' ? message : JSON.stringify(message)
    await client.publishAsync(topic, payload, { qos: 1 })
  }
  const notices = () =>
    heard.map(({ text }) => JSON.parse(text) as Notice).filter(({ params }) => 'version' in params)
  return {
    client,
    heard,
    notices,
    async notice(count) {
      await vi.waitUntil(() => notices().length >= count, { timeout: 60_000, interval: 20 })
      return notices()[count - 1]!
    },
    async listen(topic = downlinkOf(username)) {
      // For the library a refused filter is an error; the third argument has the broker's answer all the same.
      return new Promise((resolve) =>
        client.subscribe(topic, { qos: 1 }, (_error, _granted, packet) =>
          resolve((packet?.granted ?? []) as number[]),
        ),
      )
    },
    say,
    inform: (version, more = {}) => say('ota/device/inform', { id: '1', params: { version, ...more } }),
    async progress(...steps) {
      for (const step of steps) {
        await say('ota/device/progress', { step: String(step), desc: `Upgrade Progress ${step}%` })
      }
    },
  }
}
