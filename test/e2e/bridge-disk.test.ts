import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connectAsync, type MqttClient } from 'mqtt'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { type FakeWorker, startFakeWorker, until } from './fake-worker.ts'
import { freePort } from './mosquitto.ts'

// A full disk is simulated with the process's limit on file sizes.

let worker: FakeWorker
let directory: string
let child: ChildProcess
let output: string
let health: string
let device: MqttClient | undefined
beforeEach(async () => {
  worker = await startFakeWorker()
  directory = mkdtempSync(join(tmpdir(), 'bridge-disk-'))
})
afterEach(async () => {
  device?.end(true)
  child.kill('SIGKILL')
  await worker.close()
  rmSync(directory, { recursive: true })
})

/** Starts a bridge whose files may grow to `kilobytes`. */
async function run(kilobytes: string): Promise<void> {
  const port = await freePort()
  health = `http://127.0.0.1:${port}`
  output = ''
  child = spawn('sh', ['-c', `ulimit -S -f ${kilobytes}; exec "${process.execPath}" bridge/main.ts`], {
    env: {
      PATH: process.env.PATH,
      WORKER_URL: worker.url,
      BRIDGE_KEY: worker.key,
      MQTT_PORT: '0',
      SPOOL_FILE: join(directory, 'spool.db'),
      HEALTH_PORT: String(port),
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk) => {
      output += chunk
    })
  }
}
const setLimit = (bytes: string) => execFileSync('prlimit', ['--pid', String(child.pid), `--fsize=${bytes}:`])

async function becomes(state: string) {
  for (const deadline = performance.now() + 60_000; ; ) {
    const response = await fetch(`${health}/healthz`).catch(() => undefined)
    const report = (await response?.json()) as { status: string; spool: { state: string } } | undefined
    if (report?.spool.state === state) return { httpStatus: response?.status, ...report }
    if (performance.now() > deadline || child.exitCode !== null) throw new Error(`not ${state}: ${output}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

it('a bridge that starts on a full disk says so, waits, and then runs', async () => {
  await run('0')
  expect(await becomes('disk_error')).toMatchObject({ httpStatus: 503, status: 'error' })
  expect((await fetch(`${health}/metrics`)).status).toBe(503)
  setLimit('unlimited')
  expect(await becomes('ok')).toMatchObject({ httpStatus: 200 })
  await until('the hub', () => worker.sockets.size === 1)
})

it('a bridge whose disk fills up says so, survives further messages, and goes on afterwards', async () => {
  await run('unlimited')
  const port = await until('the bridge to run', () => /"mqttPort":(\d+)/.exec(output)?.[1])
  worker.users.set('dev-1', '')
  device = await connectAsync(`mqtt://127.0.0.1:${port}`, { username: 'dev-1', reconnectPeriod: 50 })
  device.on('error', () => {})
  await until('the Worker to have it', () => worker.taken.length > 0)
  setLimit('0')
  const published = device.publishAsync('ota/device/progress', '{"step":"1"}', { qos: 1 })
  expect(await becomes('disk_error')).toMatchObject({ httpStatus: 503, status: 'error' })
  worker.lease = { number: 2, active: true }
  worker.send({ t: 'lease', ...worker.lease })
  await until('what it says of it', () => {
    if (child.exitCode !== null) throw new Error(output)
    return output.includes('the lease cannot be written')
  })
  setLimit('unlimited')
  await published
  await until('the message', () => worker.taken.some(({ kind }) => kind === 'message'))
  await becomes('ok')
  await until('the lease', () => worker.taken.some(({ lease }) => lease === 2) || undefined, 1).catch(
    () => {},
  )
  expect(child.exitCode).toBeNull()
})
