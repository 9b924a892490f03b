import { setTimeout as sleep } from 'node:timers/promises'
import { type RawClient, rawClient, SUBACK, subscribePacket } from '../e2e/raw-mqtt.ts'

// A process of its own (connections.ts) with some thousand devices as raw sockets.
//   node test/bench/crowd.ts PORT LOCAL_ADDRESS FROM TO

/** Another process's crowd of devices. */
export interface Crowd {
  do(what: 'connect' | 'cut'): Promise<FromCrowd>
}

export interface FromCrowd {
  /** From each device's first try to its SUBACK, ms. */
  times: number[]
  tries: number
}

const [port, address, from, to] = process.argv.slice(2) as [string, string, string, string]
/** A device that got no answer tries again after this long, as firmware does. */
const TRY_AGAIN_AFTER_MS = 1_000
/** As long as MQTT libraries wait. Without it a lost SYN alone may take minutes. */
const ANSWER_WITHIN_MS = 30_000

const clients: RawClient[] = []
let tries = 0

async function connectDevice(username: string): Promise<number> {
  const since = performance.now()
  for (;;) {
    const client = rawClient(Number(port), { clientId: username, username }, address)
    client.socket.setTimeout(ANSWER_WITHIN_MS, () => client.socket.destroy())
    if ((await client.connack) === 0) {
      client.socket.write(subscribePacket(1, `ota/device/inform/${username}`))
      if (await client.next(SUBACK)) {
        client.socket.setTimeout(0)
        clients.push(client)
        return performance.now() - since
      }
    }
    client.socket.destroy()
    tries++
    await sleep(TRY_AGAIN_AFTER_MS)
  }
}

process.on('message', async (what: 'connect' | 'cut') => {
  if (what === 'cut') {
    for (const { socket } of clients.splice(0)) socket.resetAndDestroy()
    process.send?.({ times: [], tries: 0 } satisfies FromCrowd)
    return
  }
  tries = 0
  const usernames = Array.from({ length: Number(to) - Number(from) }, (_, n) => `crowd-${Number(from) + n}`)
  const times = await Promise.all(usernames.map(connectDevice))
  process.send?.({ times, tries } satisfies FromCrowd)
})
