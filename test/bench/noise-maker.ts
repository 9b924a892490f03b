import { setTimeout as sleep } from 'node:timers/promises'
import { publishPacket, rawClient } from '../e2e/raw-mqtt.ts'

// A process of its own (noise.ts): one device that offers messages at a rate and waits for no answer. When it is closed
// it connects again at once. It says on stdout each second how many messages it has written.
//   node test/bench/noise-maker.ts PORT USERNAME KIND PER_SECOND

const [port, username, kind, perSecond] = process.argv.slice(2) as [string, string, NoiseKind, string]
export type NoiseKind = 'reports' | 'progress' | 'requests'

const EVERY_MS = 10
/** It stops writing while so much is unsent, as a device would whose buffers are full. */
const MOST_UNSENT_BYTES = 1024 * 1024
const EACH_TIME = Math.round((Number(perSecond) * EVERY_MS) / 1000)

const BODIES: Record<NoiseKind, (n: number) => [topic: string, payload: string]> = {
  reports: (n) => ['ota/device/inform', `{"params":{"version":"v${n}","module":"invented-${n}"}}`],
  progress: (n) => ['ota/device/progress', `{"step":${n % 100}}`],
  requests: (n) => ['ota/device/request', `{"id":"${n}"}`],
}

let written = 0
setInterval(() => process.stdout.write(`${written}\n`), 1_000)
for (;;) {
  const { socket, connack, isClosed } = rawClient(Number(port), { clientId: 'noisy', username })
  if ((await connack) !== 0) await sleep(100)
  while (!isClosed()) {
    const until = performance.now() + EVERY_MS
    for (let n = 0; n < EACH_TIME && socket.writableLength < MOST_UNSENT_BYTES; n++) {
      socket.write(publishPacket((written % 65_535) + 1, ...BODIES[kind](written)))
      written++
    }
    await sleep(Math.max(1, until - performance.now()))
  }
}
