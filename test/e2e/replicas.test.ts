import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectAsync, type MqttClient } from 'mqtt'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openSpool } from '../../bridge/spool.ts'
import { freePort, hasMosquitto } from './mosquitto.ts'
import { eventually, type System, startSystem } from './system.ts'

// Two bridges of one name, each a process, joined to an external broker.

const TAKEOVER_MS = 120_000

interface Replica {
  child: ChildProcess
  output: () => string
  end: (signal: 'SIGKILL' | 'SIGTERM') => Promise<void>
}

describe.skipIf(!hasMosquitto())('two bridges of one name', () => {
  const directory = mkdtempSync(join(tmpdir(), 'replicas-'))
  const processes: ChildProcess[] = []
  let system: System
  let port: number
  let device: MqttClient
  beforeAll(async () => {
    port = await freePort()
    const config = join(directory, 'mosquitto.conf')
    writeFileSync(config, `listener ${port} 127.0.0.1\nallow_anonymous true\n`)
    const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` }
    processes.push(spawn('mosquitto', ['-c', config], { stdio: 'ignore', env }))
    system = await startSystem({ withBridge: false })
    device = await connectAsync(`mqtt://127.0.0.1:${port}`, { reconnectPeriod: 100 })
  })
  afterAll(async () => {
    device?.end(true)
    for (const child of processes) child.kill('SIGKILL')
    await system.close()
    rmSync(directory, { recursive: true })
  })

  const spoolFile = (name: string) => join(directory, `${name}.db`)

  function startReplica(name: string, key = system.bridgeKey): Replica {
    const child = spawn(process.execPath, ['bridge/main.ts'], {
      env: {
        PATH: process.env.PATH,
        WORKER_URL: system.url.origin,
        BRIDGE_KEY: key,
        MQTT_URL: `mqtt://127.0.0.1:${port}`,
        SPOOL_FILE: spoolFile(name),
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    processes.push(child)
    let output = ''
    child.stdout.on('data', (chunk) => {
      output += chunk
    })
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    return {
      child,
      output: () => output,
      end: (signal) => {
        child.kill(signal)
        return ended
      },
    }
  }

  it('two bridges of one name take over from each other, lose nothing, and late messages override nothing newer', async () => {
    const operator = await system.newTenant()
    const productId = await operator.product()
    const { id: deviceId } = await operator.device(productId, 'n1', { accessToken: 'replica-device-1' })
    const say = (step: number) =>
      device.publishAsync('ota/device/progress/replica-device-1', JSON.stringify({ step }), { qos: 1 })
    const bridges = async () => (await operator.get('/api/v1/bridges')).items[0]
    const isActive = (replica: Replica) =>
      eventually(() => expect(replica.output()).toContain('this bridge is the active one'), TAKEOVER_MS)

    const first = startReplica('first')
    await isActive(first)
    const second = startReplica('second')
    await eventually(() => expect(second.output()).toContain('this bridge stands by'))
    expect(await bridges()).toMatchObject({ connected: true, standbys: 1 })

    await device.subscribeAsync('ota/device/inform/replica-device-1', { qos: 1 })
    const pkg = await operator.pkg(productId, 'v2', Buffer.from('firmware'))
    const { id } = await operator.task(pkg.id)
    const inTask = () => operator.get(`/api/v1/tasks/${id}/devices/${deviceId}`)
    const hasStep = (step: number) =>
      eventually(async () => expect(await inTask()).toMatchObject({ step }), TAKEOVER_MS)
    await eventually(async () => expect((await inTask()).status).toBe('pushed'))
    await say(30)
    await hasStep(30)

    await first.end('SIGKILL')
    const spool = openSpool(spoolFile('first'), { sync: 'normal' })
    const payload = Buffer.from('{"step":45}').toString('base64')
    const body = { kind: 'message', username: 'replica-device-1', topic: 'ota/device/progress', payload }
    spool.append([{ key: 'replica-device-1', at: null, body: JSON.stringify(body) }])
    spool.close()
    // No bridge is connected now: the broker keeps the message for the session, which the second bridge resumes.
    await say(60)
    await isActive(second)
    await hasStep(60)

    const again = startReplica('first')
    await eventually(() => expect(again.output()).toContain('this bridge stands by'))
    await eventually(async () => {
      const { step, events } = await inTask()
      expect(step).toBe(60)
      expect(events.at(-1)).toMatchObject({ kind: 'late progress', detail: '45' })
    })

    await second.end('SIGTERM')
    await isActive(again)
    await say(80)
    await hasStep(80)
    await again.end('SIGTERM')
  })

  it('the standby takes over at once from a bridge whose key is revoked', async () => {
    const operator = await system.newTenant()
    await operator.product()
    const [stolen, own] = await Promise.all(
      ['stolen', 'own'].map((name) =>
        operator.post('/api/v1/keys', { name, role: 'bridge', bridge: 'default' }),
      ),
    )
    const bridges = async () => (await operator.get('/api/v1/bridges')).items[0]
    const thief = startReplica('thief', stolen.key)
    await eventually(() => expect(thief.output()).toContain('this bridge is the active one'), TAKEOVER_MS)
    const standby = startReplica('standby', own.key)
    await eventually(() => expect(standby.output()).toContain('this bridge stands by'))
    await operator.call('DELETE', `/api/v1/keys/${stolen.id}`)
    await eventually(() => expect(standby.output()).toContain('this bridge is the active one'))
    await eventually(() => expect(thief.output()).toContain('this bridge stands by'))
    expect(await bridges()).toMatchObject({ connected: true, standbys: 0 })
    await Promise.all([thief.end('SIGTERM'), standby.end('SIGTERM')])
  })
})
