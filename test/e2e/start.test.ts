import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { request } from 'node:http'
import { networkInterfaces, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { AwsV4Signer } from 'aws4fetch'
import { serializeSigned } from 'hono/utils/cookie'
import { afterEach, beforeEach, expect, it } from 'vitest'
import WebSocket from 'ws'
import { freePort } from '../../bridge/local/ports.ts'
import { createApi } from '../fleet/api-client.ts'
import { startFleet } from '../fleet/fleet.ts'
import { ensurePackage, importFleet } from '../fleet/setup.ts'

// `npm start` as a newcomer uses it: in an empty directory, with Ctrl-C, and again in the same directory.

const READY = 'edge-ota runs.'

let directory: string
let running: ChildProcess | undefined
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'edge-ota-start-'))
})
afterEach(async () => {
  if (running?.exitCode === null) await interrupt()
  rmSync(directory, { recursive: true, force: true })
})

/** Starts it and waits until it has printed its addresses; if it ends before, fails with its output. */
async function start(port: number, mqttPort: number, more: Record<string, string> = {}): Promise<string> {
  // The mask of a careless shell: whatever is written must be closed to others all the same.
  const command = `umask 000; exec "${process.execPath}" "${resolve('bridge/start.ts')}"`
  const child = spawn('sh', ['-c', command], {
    cwd: directory,
    env: { ...process.env, PORT: String(port), MQTT_PORT: String(mqttPort), ...more },
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

/** What others could open: every file and folder that the owner does not have for itself. */
const openToOthers = (folder: string) =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(
    (name) => (statSync(join(folder, name)).mode & 0o077) !== 0,
  )

const keyIn = (file: string, name: string) =>
  new RegExp(`^${name}=(\\S+)$`, 'm').exec(readFileSync(file, 'utf8'))![1]!

interface Fleet {
  url: string
  key: string
  mqttUrl: string
}

/** Upgrades three devices to the end; returns the task's id. */
async function upgradeThree({ url, key, mqttUrl }: Fleet) {
  const api = createApi({ url, key })
  const product = await api.createProduct({ name: 'lamp' })
  const devices = ['a', 'b', 'c'].map((number) => ({ number, accessToken: `start-test-device-${number}` }))
  await importFleet(api, product.id, devices)
  const pkg = await ensurePackage(api, {
    productId: product.id,
    version: 'v1.1.0',
    module: 'default',
    size: 10_000,
  })
  const fleet = startFleet({ mqttUrl, devices, behaviour: { stepMs: 10 } })
  await fleet.started()
  const task = await api.createTask({ packageId: pkg.id, name: 'to v1.1.0', devices: 'all' })
  await fleet.finished()
  await expect.poll(async () => (await api.task(task.id)).status, { timeout: 60_000 }).toBe('finished')
  fleet.stop()
  expect((await api.task(task.id)).counts).toMatchObject({ total: 3, success: 3 })
  return { api, taskId: task.id }
}

it('npm start works in an empty directory, upgrades devices, ends on Ctrl-C, and goes on where it was', async () => {
  const [port, mqttPort] = [await freePort(), await freePort()]
  const printed = await start(port, mqttPort)
  const url = `http://127.0.0.1:${port}`
  expect(printed).toContain(url)
  expect(printed).toContain(`mqtt://127.0.0.1:${mqttPort}`)
  const vars = readFileSync(join(directory, '.dev.vars'), 'utf8')
  const key = keyIn(join(directory, '.dev.vars'), 'ADMIN_KEY')
  expect(printed).toContain(key)
  expect(statSync(join(directory, '.dev.vars')).mode & 0o777).toBe(0o600)
  const { api, taskId } = await upgradeThree({ url, key, mqttUrl: `mqtt://127.0.0.1:${mqttPort}` })
  expect(openToOthers(join(directory, '.wrangler'))).toEqual([])
  const secrets = readFileSync(join(directory, '.wrangler/local/secrets.env'), 'utf8')
  expect(await interrupt()).toBe(0)

  await start(port, mqttPort)
  expect((await api.task(taskId)).counts).toMatchObject({ total: 3, success: 3 })
  expect(readFileSync(join(directory, '.dev.vars'), 'utf8')).toBe(vars)
  expect(readFileSync(join(directory, '.wrangler/local/secrets.env'), 'utf8')).toBe(secrets)
  expect(await interrupt()).toBe(0)
})

const networkAddress = Object.values(networkInterfaces())
  .flatMap((addresses) => addresses ?? [])
  .find(({ internal, family }) => !internal && family === 'IPv4')?.address

/** A request as a stranger in the network makes it, with any path and any header. */
const ask = (port: number, method: string, path: string, headers: Record<string, string> = {}) =>
  new Promise<{ status: number; text: string }>((done, failed) => {
    const asked = request({ host: networkAddress, port, method, path, headers }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk
      })
      response.on('end', () => done({ status: response.statusCode ?? 0, text }))
    })
    asked.on('error', failed)
    // Without a length, the body of a GET would be read as the next request.
    asked.end(method === 'PUT' ? 'mine' : undefined)
  })

it.skipIf(networkAddress === undefined)(
  'npm start with HOST serves devices from other machines to the end, and gives nobody D1, the bucket or a session',
  async () => {
    // What an earlier version left open.
    mkdirSync(join(directory, '.wrangler', 'bridge'), { recursive: true })
    writeFileSync(join(directory, '.wrangler', 'bridge', 'old'), '')
    for (const name of ['', 'bridge', 'bridge/old']) chmodSync(join(directory, '.wrangler', name), 0o777)
    const [port, mqttPort] = [await freePort(), await freePort()]
    const url = `http://${networkAddress}:${port}`
    const mqttUrl = `mqtt://${networkAddress}:${mqttPort}`
    const printed = await start(port, mqttPort, { HOST: '0.0.0.0' })
    expect(printed).toContain(url)
    expect(printed).toContain(mqttUrl)
    const key = keyIn(join(directory, '.dev.vars'), 'ADMIN_KEY')
    // A presigned link would lead to wrangler's tools, which answer with "Invalid Host header".
    const { api, taskId } = await upgradeThree({ url, key, mqttUrl })
    expect(openToOthers(join(directory, '.wrangler'))).toEqual([])

    // The bucket, with the published keys and those of this installation; and D1.
    const [name] = readdirSync(join(directory, '.wrangler/state/v3/r2/edge-ota-packages/blobs'))
    expect(name).toBeDefined()
    const secrets = join(directory, '.wrangler/local/secrets.env')
    const own = {
      accessKeyId: keyIn(secrets, 'R2_ACCESS_KEY_ID'),
      secretAccessKey: keyIn(secrets, 'R2_SECRET_ACCESS_KEY'),
    }
    const published = { accessKeyId: 'local-access-key', secretAccessKey: 'local-secret-key' }
    expect(own).not.toMatchObject(published)
    for (const host of [`${networkAddress}:${port}`, `127.0.0.1:${port}`, 'localhost']) {
      for (const credentials of [published, own]) {
        for (const method of ['PUT', 'GET', 'DELETE']) {
          const object = `http://${host}/cdn-cgi/local/r2/s3/edge-ota-packages/packages/x`
          const signed = await new AwsV4Signer({
            method,
            url: object,
            ...credentials,
            service: 's3',
            region: 'auto',
            signQuery: true,
          }).sign()
          const { pathname, search } = signed.url
          expect([host, method, (await ask(port, method, pathname + search, { host })).status]).toEqual([
            host,
            method,
            404,
          ])
        }
      }
      for (const path of [
        '/cdn-cgi/local/explorer',
        '/cdn-cgi/local/explorer/api/d1/database',
        '/cdn-cgi/local/r2/public/edge-ota-packages/packages/x',
        '/cdn-cgi/local/platform-proxy',
        '/cdn-cgi/local/scheduled',
        '/x/../cdn-cgi/local/explorer/api/d1/database',
        '/%2e%2e/cdn-cgi/local/explorer/api/d1/database',
        '/\\..\\cdn-cgi\\local\\explorer\\api\\d1\\database',
        '//cdn-cgi/local/explorer/api/d1/database',
        `http://${host}/cdn-cgi/local/explorer/api/d1/database`,
        '/__cf_local/stream',
      ]) {
        expect([path, (await ask(port, 'GET', path, { host })).status]).toEqual([path, 404])
      }
      const asOther = { host, 'mf-original-url': 'http://localhost/cdn-cgi/local/explorer/api/d1/database' }
      expect((await ask(port, 'GET', '/healthz', asOther)).text).toBe('{"status":"ok"}')
      // A session and a link, made offline with the published secrets.
      const keys = (await (
        await fetch(`${url}/api/v1/keys`, { headers: { authorization: `Bearer ${key}` } })
      ).json()) as { items: { id: string; role: string }[] }
      const value = `${keys.items.find(({ role }) => role === 'admin')!.id}.${Math.floor(Date.now() / 1000) + 3600}`
      const cookie = await serializeSigned('edge_ota_session', value, 'local-session-secret')
      expect((await ask(port, 'GET', '/', { host, cookie: cookie.split(';')[0]! })).status).toBe(303)
    }
    expect((await api.task(taskId)).counts).toMatchObject({ success: 3 })

    // A WebSocket goes through: the bridge of another machine would use it.
    const authorization = `Bearer ${keyIn(join(directory, '.dev.vars'), 'BRIDGE_KEY')}`
    const socket = new WebSocket(`${url.replace('http', 'ws')}/bridge/v1/socket`, {
      headers: { authorization },
    })
    const [frame] = await once(socket, 'message')
    expect(JSON.parse(String(frame))).toMatchObject({ t: 'welcome' })
    socket.close()
    const stranger = new WebSocket(`${url.replace('http', 'ws')}/bridge/v1/socket`)
    const [, refused] = await once(stranger, 'unexpected-response')
    expect(refused.statusCode).toBe(401)
    expect(await interrupt()).toBe(0)
  },
)
