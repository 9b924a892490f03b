import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { createApi } from '../fleet/api-client.ts'
import { startFleet } from '../fleet/fleet.ts'
import { ensurePackage, importFleet } from '../fleet/setup.ts'

// `npm start` as a newcomer uses it: in an empty directory, with Ctrl-C, and again in the same directory.

const READY = 'edge-ota runs.'

const directory = mkdtempSync(join(tmpdir(), 'edge-ota-start-'))

let running: ChildProcess | undefined
afterAll(() => {
  running?.kill('SIGTERM')
  rmSync(directory, { recursive: true, force: true })
})

/** A port that is free now. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}

/** Starts it and waits until it has printed its addresses; if it ends before, fails with its output. */
async function start(port: number, mqttPort: number): Promise<string> {
  const child = spawn(process.execPath, [resolve('bridge/start.ts')], {
    cwd: directory,
    env: { ...process.env, PORT: String(port), MQTT_PORT: String(mqttPort) },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running = child
  let printed = ''
  await new Promise<void>((ready, failed) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        printed += text
        if (printed.includes(READY) && printed.includes('Ctrl-C')) ready()
      })
    }
    child.once('exit', (code) => failed(new Error(`npm start ended with ${code}:\n${printed}`)))
  })
  return printed
}

async function interrupt(): Promise<number | null> {
  const exited = once(running!, 'exit')
  running!.kill('SIGINT')
  const [code] = await exited
  return code as number | null
}

it('npm start works in an empty directory, upgrades devices, ends on Ctrl-C, and goes on where it was', async () => {
  const [port, mqttPort] = [await freePort(), await freePort()]
  const printed = await start(port, mqttPort)
  const url = `http://127.0.0.1:${port}`
  expect(printed).toContain(url)
  expect(printed).toContain(`mqtt://127.0.0.1:${mqttPort}`)
  const vars = readFileSync(join(directory, '.dev.vars'), 'utf8')
  const key = /^ADMIN_KEY=(\S+)$/m.exec(vars)![1]!
  expect(printed).toContain(key)
  expect(statSync(join(directory, '.dev.vars')).mode & 0o777).toBe(0o600)

  const api = createApi({ url, key })
  const product = await api.createProduct({ name: 'lamp' })
  const devices = ['a', 'b', 'c'].map((number) => ({ number, accessToken: `start-test-${number}` }))
  await importFleet(api, product.id, devices)
  const pkg = await ensurePackage(api, {
    productId: product.id,
    version: 'v1.1.0',
    module: 'default',
    size: 10_000,
  })
  const fleet = startFleet({
    mqttUrl: `mqtt://127.0.0.1:${mqttPort}`,
    devices,
    behaviour: { stepMs: 10 },
  })
  await fleet.started()
  const task = await api.createTask({ packageId: pkg.id, name: 'to v1.1.0', devices: 'all' })
  await fleet.finished()
  await expect.poll(async () => (await api.task(task.id)).status, { timeout: 60_000 }).toBe('finished')
  fleet.stop()
  expect(await interrupt()).toBe(0)

  await start(port, mqttPort)
  expect((await api.task(task.id)).counts).toMatchObject({ total: 3, success: 3 })
  expect(readFileSync(join(directory, '.dev.vars'), 'utf8')).toBe(vars)
  expect(await interrupt()).toBe(0)
})
