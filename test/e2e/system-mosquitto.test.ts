import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually, type System, startSystem } from './system.ts'
import { downlinkOf, TEN_STEPS } from './system-device.ts'
import { counts } from './system-operator.ts'

// A device made of standard tools: mosquitto_sub, mosquitto_pub, curl and sha256sum, with a real firmware image
// (Debian: mosquitto-clients, curl, firmware-ath9k-htc).
const FIRMWARE = '/lib/firmware/ath9k_htc/htc_9271-1.4.0.fw'
const TOOLS = ['mosquitto_sub', 'mosquitto_pub', 'curl', 'head', 'sha256sum']
const missing = [
  ...TOOLS.filter((tool) => spawnSync('which', [tool]).status !== 0),
  ...(existsSync(FIRMWARE) ? [] : [FIRMWARE]),
]
if (missing.length > 0) {
  const text = `A device of standard tools cannot be played here; missing: ${missing.join(', ')}`
  if (process.env.CI) throw new Error(text)
  console.warn(`${text}. SKIPPED.`)
}

const run = promisify(execFile)

describe.skipIf(missing.length > 0)('a device of mosquitto_sub, mosquitto_pub and curl alone', () => {
  const directory = mkdtempSync(join(tmpdir(), 'mosquitto-'))
  const token = 'ath9k_htc-device-0001'
  const processes: ChildProcess[] = []
  let system: System
  beforeAll(async () => {
    system = await startSystem()
  })
  afterAll(async () => {
    for (const child of processes) child.kill('SIGKILL')
    await system.close()
    rmSync(directory, { recursive: true })
  })

  const connection = () => ['-h', '127.0.0.1', '-p', new URL(system.mqttUrl()).port, '-u', token, '-P', '']

  const publish = (topic: string, message: object) =>
    run('mosquitto_pub', [...connection(), '-q', '1', '-t', topic, '-m', JSON.stringify(message)])

  /** The lines that mosquitto_sub printed: topic and message. */
  function subscribe(): () => string[] {
    const child = spawn('mosquitto_sub', [
      ...connection(),
      '-i',
      'device-session',
      '-c',
      '-q',
      '1',
      '-t',
      downlinkOf(token),
      '-F',
      '%t %p',
    ])
    processes.push(child)
    let output = ''
    child.stdout.on('data', (chunk) => {
      output += chunk
    })
    return () => output.split('\n').filter((line) => line !== '')
  }

  it('a device of standard tools upgrades with a real firmware image over a cut download', async () => {
    const operator = await system.newTenant()
    const productId = await operator.product({ name: 'ath9k_htc' })
    const device = await operator.device(productId, 'htc 1', { accessToken: token })
    const lines = subscribe()
    await publish('ota/device/inform', { id: '147258369', params: { version: 'v1.0.0', module: 'default' } })
    await eventually(async () => {
      const { online, modules } = await operator.get(`/api/v1/devices/${device.id}`)
      expect({ online, modules }).toMatchObject({ online: true, modules: [{ version: 'v1.0.0' }] })
    })

    const image = readFileSync(FIRMWARE)
    const pkg = await operator.pkg(productId, 'v1.1.0', image, { extData: { key1: 'value1' } })
    const { id } = await operator.task(pkg.id)
    await eventually(() => expect(lines()).toHaveLength(1))
    const [topic, text] = lines()[0]!.split(/ (.*)/s)
    expect(topic).toBe(`ota/device/inform/${token}`)
    const notice = JSON.parse(text!)
    expect(notice).toStrictEqual({
      id: expect.stringMatching(/^\d{10}$/),
      code: 200,
      params: {
        version: 'v1.1.0',
        size: image.byteLength,
        url: expect.stringMatching(/^http:\/\//),
        signMethod: 'SHA256',
        sign: expect.stringMatching(/^[0-9a-f]{64}$/),
        extData: { key1: 'value1' },
      },
    })

    const { url, sign, size } = notice.params
    const file = join(directory, 'firmware.bin')
    const received = Math.floor(size / 2)
    // `head` ends half-way and so cuts the connection.
    const cutOff = 'curl -s "$1" | head -c "$2" > "$3"'
    await run('sh', ['-c', cutOff, 'sh', url, String(received), file])
    expect(statSync(file).size).toBe(received)
    await publish('ota/device/progress', { step: '10', desc: 'Upgrade Progress 10%' })
    const { stdout: answer } = await run('curl', ['-s', '-C', '-', '-D', '-', '-o', file, url])
    expect(answer).toMatch(/^HTTP\/1.1 206/)
    expect(answer.toLowerCase()).toContain(`content-range: bytes ${received}-${size - 1}/${size}`)
    expect((await run('sha256sum', [file])).stdout.split(' ')[0]).toBe(sign)
    expect(readFileSync(file).equals(image)).toBe(true)

    for (const step of TEN_STEPS.slice(1)) {
      await publish('ota/device/progress', { step: String(step), desc: `Upgrade Progress ${step}%` })
    }
    await publish('ota/device/inform', { id: '147258370', params: { version: 'v1.1.0' } })
    await eventually(async () => {
      const view = await operator.view(id)
      expect(view).toMatchObject({ status: 'finished', counts: counts({ success: 1 }) })
      const { modules } = await operator.get(`/api/v1/devices/${device.id}`)
      expect(modules).toMatchObject([{ module: 'default', version: 'v1.1.0' }])
    })
    const { events } = await operator.deviceIn(id, device)
    const progress = events.filter(({ kind }: { kind: string }) => kind === 'progress')
    expect(progress.map(({ detail }: { detail: string }) => Number.parseInt(detail, 10))).toEqual(TEN_STEPS)
    const { body: report } = await operator.call('GET', `/api/v1/tasks/${id}/report.csv`)
    expect(report).toContain('htc 1,,default,v1.0.0,v1.1.0,success,100,')
    expect(lines()).toHaveLength(1)
    expect(system.errors()).toEqual([])
  })
})
