import { afterEach, describe, expect, it } from 'vitest'
import { hasMosquitto } from './mosquitto.ts'
import { publishPacket, rawClient } from './raw-mqtt.ts'
import { eventually, type System, startSystem } from './system.ts'

// The noise bench (test/bench/noise.ts) in small: counts only.

const HONEST = 20
const ROUNDS = 3
const NOISE = 3_000

let system: System | undefined
afterEach(async () => {
  await system?.close()
  system = undefined
})

describe.each(['the embedded broker', 'Mosquitto'])('noise on %s', (broker) => {
  it.skipIf(broker === 'Mosquitto' && !hasMosquitto())(
    'one device floods with reports of invented modules and with requests; each report of the others counts, each request is answered, and the noise stays few rows',
    async () => {
      system = await startSystem({ withBridge: true, mosquitto: broker === 'Mosquitto' })
      const { DB } = await system.worker.getEnv()
      const operator = await system.newTenant()
      const productId = await operator.product()
      const noisy = await operator.device(productId, 'noisy')
      const honest = await Promise.all(
        Array.from({ length: HONEST }, (_, n) => operator.device(productId, `honest-${n}`)),
      )
      const connected = await Promise.all(
        honest.map(({ username }) => eventually(() => system!.connect(username))),
      )
      for (const device of connected) await device.listen()

      const flood = rawClient(system.bridge().mqttPort ?? system.mosquitto!.port, {
        clientId: 'noisy',
        username: noisy.username,
      })
      expect(await flood.connack).toBe(0)
      for (let n = 1; n <= NOISE; n++) {
        const report = JSON.stringify({ params: { version: 'v1', module: `invented-${n}` } })
        flood.socket.write(publishPacket(2 * n - 1, 'ota/device/inform', report))
        flood.socket.write(publishPacket(2 * n, 'ota/device/request', `{"id":"${n}"}`))
      }
      for (let round = 0; round < ROUNDS; round++) {
        await Promise.all(
          connected.map(async (device) => {
            await device.inform(`v${round}`)
            await device.say('ota/device/request', { id: `${round}` })
          }),
        )
      }
      await eventually(() => {
        for (const { heard } of connected) {
          const ids = new Set(heard.map(({ text }) => JSON.parse(text).id))
          expect([...ids].sort()).toEqual(['0', '1', '2'])
        }
      })
      for (const { id } of honest) {
        const { modules } = await operator.get(`/api/v1/devices/${id}`)
        expect(modules).toMatchObject([{ module: 'default', version: `v${ROUNDS - 1}` }])
      }
      const rows = async (table: string) =>
        (
          await DB.prepare(`SELECT count(*) AS count FROM ${table} WHERE device_id = ?`)
            .bind(noisy.id)
            .first<{ count: number }>()
        )?.count
      expect(await rows('device_modules')).toBeLessThanOrEqual(32)
      expect(await rows('rejections')).toBeLessThanOrEqual(1)
      flood.socket.destroy()
    },
  )
})
