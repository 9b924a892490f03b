import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Behaviour, DevicePlan } from '../../fleet/behaviour.ts'
import { makeFirmware } from '../../fleet/firmware.ts'
import { type Fleet, startFleet } from '../../fleet/fleet.ts'
import { type StandIn, startStandIn } from '../../fleet/stand-in.ts'

const DEVICE = { number: 'n1', accessToken: 'token-1' }
const INFORM = 'ota/device/inform'
const PROGRESS = 'ota/device/progress'
const SIZE = 300_000

let server: StandIn
let fleet: Fleet | undefined
beforeEach(async () => {
  server = await startStandIn(makeFirmware('v1.1.0', SIZE))
})
afterEach(async () => {
  fleet?.stop()
  await server.close()
})

async function start(plan: Partial<DevicePlan> = {}, behaviour: Partial<Behaviour> = {}): Promise<Fleet> {
  fleet = startFleet({ mqttUrl: server.mqttUrl, devices: [DEVICE], behaviour, plan: () => plan })
  await fleet.started()
  return fleet
}
const until = (check: () => void) => vi.waitFor(check, { timeout: 60_000, interval: 10 })
const truthOf = (running: Fleet) => running.truth().get(DEVICE.number)!
const steps = () => server.heard.filter(({ topic }) => topic === PROGRESS).map(({ message }) => message.step)
const versions = () =>
  server.heard.filter(({ topic }) => topic === INFORM).map(({ message }) => message.params.version)
const ALL_STEPS = ['10', '20', '30', '40', '50', '60', '70', '80', '90', '100']

describe('a simulated device', () => {
  it('a simulated device reports its version, upgrades on a notice, and reports the new version after 100 %', async () => {
    const running = await start()
    expect(server.heard).toEqual([
      {
        username: 'token-1',
        topic: INFORM,
        message: { id: '0000000001', params: { version: 'v1.0.0', module: 'default' } },
      },
    ])
    await server.notify(DEVICE, 'v1.1.0')
    await running.finished()
    expect(server.heard.slice(1).map(({ message }) => message.step ?? message.params.version)).toEqual([
      ...ALL_STEPS,
      'v1.1.0',
    ])
    expect(server.requests).toEqual(['GET all'])
    expect(truthOf(running)).toMatchObject({ state: 'success', step: 100, version: 'v1.1.0', attempts: 1 })
    expect(running.stats).toMatchObject({ connects: 2, acknowledged: 12, notices: 1, lostConnections: 0 })
  })

  it('a simulated device resumes a cut download by asking for the rest', async () => {
    const running = await start({ cutDownload: true })
    await server.notify(DEVICE, 'v1.1.0')
    await running.finished()
    expect(server.requests).toEqual(['GET all', `GET bytes=${SIZE / 2}-${SIZE - 1}`])
    expect(truthOf(running)).toMatchObject({ state: 'success', resumes: 1 })
  })

  it('a simulated device can download in pieces', async () => {
    const running = await start({}, { chunkBytes: 200_000 })
    await server.notify(DEVICE, 'v1.1.0')
    await running.finished()
    expect(server.requests).toEqual(['GET bytes=0-199999', 'GET bytes=200000-299999'])
    expect(truthOf(running).state).toBe('success')
  })

  it('a simulated device does not resume with another file', async () => {
    server.refuse = () => {
      if (server.requests.length > 1) server.etag = '"2"'
      return false
    }
    const running = await start({ cutDownload: true })
    await server.notify(DEVICE, 'v1.1.0')
    await running.finished()
    expect(truthOf(running)).toMatchObject({
      state: 'failure',
      step: -2,
      detail: 'the file changed meanwhile',
    })
  })

  it('a simulated device reports −3 if the digest differs', async () => {
    const running = await start()
    await server.notify(DEVICE, 'v1.1.0', { sign: '0'.repeat(64) })
    await running.finished()
    expect(steps()).toEqual([...ALL_STEPS.slice(0, 6), '-3'])
    expect(truthOf(running)).toMatchObject({ state: 'failure', step: -3, version: 'v1.0.0' })
  })

  it('a simulated device reports −2 for an expired link and upgrades on a fresh notice', async () => {
    server.refuse = (response) => {
      response.writeHead(403).end('<Error/>')
      return true
    }
    const running = await start()
    await server.notify(DEVICE, 'v1.1.0')
    await running.finished()
    expect(steps()).toEqual(['-2'])
    server.refuse = () => false
    await server.notify(DEVICE, 'v1.1.0')
    await until(() => expect(truthOf(running).state).toBe('success'))
    expect(truthOf(running).attempts).toBe(2)
  })

  it('a simulated device tries again if the server is busy', async () => {
    server.refuse = (response) => {
      if (server.requests.length > 1) return false
      response.writeHead(503).end()
      return true
    }
    const running = await start()
    await server.notify(DEVICE, 'v1.1.0')
    await running.finished()
    expect(truthOf(running)).toMatchObject({ state: 'success', resumes: 0 })
  })

  it('a simulated device ignores repeats of its notice, and reports its version if it already runs the target', async () => {
    const held: { destroy(): void }[] = []
    server.refuse = (response) => held.push(response) === 1
    const running = await start({}, { download: false })
    await server.notify(DEVICE, 'v1.1.0')
    await until(() => expect(held).toHaveLength(1))
    await server.notify(DEVICE, 'v1.1.0')
    await until(() => expect(truthOf(running).repeats).toBe(1))
    held[0]!.destroy() // the device asks again
    await running.finished()
    expect(truthOf(running).attempts).toBe(1)
    await server.notify(DEVICE, 'v1.1.0')
    await until(() => expect(versions().slice(-2)).toEqual(['v1.1.0', 'v1.1.0']))
    expect(truthOf(running)).toMatchObject({ attempts: 1, repeats: 2 })
  })

  it('a simulated device turns to a newer version in the middle of an upgrade', async () => {
    const running = await start({}, { bytesPerSecond: 1000 })
    await server.notify(DEVICE, 'v1.0.9')
    await until(() => expect(truthOf(running).state).toBe('working'))
    await server.notify(DEVICE, 'v1.1.0', { url: 'http://127.0.0.1:1/' })
    await until(() => expect(truthOf(running)).toMatchObject({ attempts: 2, targetVersion: 'v1.1.0' }))
  })

  it.each([
    [-1, 'failure', [...ALL_STEPS.slice(0, 8), '-1']],
    [-2, 'failure', ['10', '20', '-2']],
    [-3, 'failure', [...ALL_STEPS.slice(0, 6), '-3']],
    [-4, 'failure', [...ALL_STEPS.slice(0, 7), '-4']],
    ['rollBack', 'rolledBack', ALL_STEPS],
    ['silent', 'silent', ALL_STEPS.slice(0, 4)],
  ] as const)('a simulated device with the fate %s ends as %s', async (fate, state, said) => {
    const running = await start({ fate })
    await server.notify(DEVICE, 'v1.1.0')
    await running.finished()
    expect(steps()).toEqual(said)
    expect(truthOf(running)).toMatchObject({ state, version: 'v1.0.0' })
    expect(versions()).toEqual(fate === 'rollBack' ? ['v1.0.0', 'v1.0.0'] : ['v1.0.0'])
  })

  it('a simulated device succeeds after as many failures as its fate has', async () => {
    const running = await start({ fate: -4 }, { fateTimes: 1 })
    await server.notify(DEVICE, 'v1.1.0')
    await running.finished()
    await server.notify(DEVICE, 'v1.1.0')
    await until(() => expect(truthOf(running)).toMatchObject({ state: 'success', attempts: 2 }))
  })

  it('a simulated device that goes offline resumes its download where it was', async () => {
    const running = await start({ offlineMs: 50 })
    await server.notify(DEVICE, 'v1.1.0')
    await running.finished()
    expect(steps()).toEqual(ALL_STEPS)
    expect(truthOf(running)).toMatchObject({ state: 'success' })
    expect(running.stats).toMatchObject({ connects: 3, lostConnections: 0 })
  })

  it('a simulated device reconnects after a broken connection and repeats what was not acknowledged', async () => {
    const running = await start()
    server.onHeard = ({ message }) => {
      if (message.step !== '30') return
      server.onHeard = () => {}
      server.breakConnections()
    }
    await server.notify(DEVICE, 'v1.1.0')
    await running.finished()
    expect(steps()).toEqual(ALL_STEPS.toSpliced(2, 0, '30'))
    expect(running.stats.lostConnections).toBeGreaterThan(0)
  })

  it.each([
    ['devices', 'ota/devices/inform', 'ota/devices/progress', 'ota/devices/inform/n1'],
    ['infrom', 'ota/device/infrom', PROGRESS, `${INFORM}/token-1`],
  ] as const)(
    'a simulated device of the family %s uses its topics',
    async (topics, inform, progress, downlink) => {
      const running = await start({}, { topics, steps: 1, download: false })
      await server.publish(downlink, await noticeText())
      await running.finished()
      expect(server.heard.filter(({ username }) => username !== '').map(({ topic }) => topic)).toEqual([
        inform,
        progress,
        inform,
      ])
    },
  )

  it('a simulated device can disconnect for good once it has succeeded', async () => {
    const running = await start({ fate: -1 }, { fateTimes: 1, leaveWhenDone: true })
    await server.notify(DEVICE, 'v1.1.0')
    await until(() => expect(truthOf(running).state).toBe('failure'))
    await server.notify(DEVICE, 'v1.1.0')
    await until(() => expect(truthOf(running).state).toBe('success'))
    await until(() => expect(server.connections()).toBe(0))
  })

  it('a simulated device counts an unreadable notice and does nothing', async () => {
    const running = await start()
    const good = JSON.parse(await noticeText())
    for (const bad of [
      { ...good, id: 1764000001 },
      { ...good, code: '200' },
      { ...good, more: 1 },
    ]) {
      await server.publish(`${INFORM}/token-1`, JSON.stringify(bad))
    }
    await server.publish(`${INFORM}/token-1`, '{"id":"7","code":200,"params":{}}')
    await until(() => expect(running.stats.unreadable).toBe(3))
    expect(truthOf(running)).toMatchObject({ state: 'waiting', notices: 0 })
  })

  it('waiting for a fleet ends with an error if the fleet is stopped', async () => {
    const running = await start()
    const waiting = running.finished()
    running.stop()
    await expect(waiting).rejects.toThrow('stopped')
    await expect(running.finished()).rejects.toThrow('stopped')
  })
})

/** The text of a notice as the stand-in sends it. */
async function noticeText(): Promise<string> {
  let text = ''
  const { publish } = server
  server.publish = async (_topic, payload) => {
    text = payload
  }
  await server.notify(DEVICE, 'v1.1.0')
  server.publish = publish
  return text
}
