import { env, exports } from 'cloudflare:workers'
import { describe, expect, it } from 'vitest'
import { createLinker } from '../../src/downloads/linker.ts'
import { importTokenKey, makeToken, readToken, TOKEN_LENGTH } from '../../src/downloads/token.ts'
import { newId } from '../../src/ids.ts'
import { type Lab, type LabDevice, makeLab, over, progresses } from './lab.ts'
import { moveClock, until } from './lab-clock.ts'

const FILE = 'firmware v2'
const KINDS = ['download began', 'download completed']

const fetchLink = (url: string, headers: Record<string, string> = {}, method = 'GET') =>
  exports.default.fetch(url, { method, headers })

const makeWorkerLab = (devices = 1) => makeLab(devices, { downloads: 'worker' })

async function pushedLink(lab: Lab, device: LabDevice = lab.devices[0]!): Promise<string> {
  return (await lab.push(device)).notice.params.url
}

describe('a link through the Worker', () => {
  it('is short, and leads to the file', async () => {
    const lab = await makeWorkerLab()
    await lab.upgradeTo('v2')
    const url = await pushedLink(lab)
    expect(url.startsWith(`${env.PUBLIC_URL}/d/`)).toBe(true)
    expect(url.length).toBeLessThan(128)
    const answer = await fetchLink(url)
    expect(answer.status).toBe(200)
    expect(answer.headers.get('content-length')).toBe(String(FILE.length))
    expect(answer.headers.get('accept-ranges')).toBe('bytes')
    expect(await answer.text()).toBe(FILE)
  })

  it('gives parts, so that a download goes on where it was cut off', async () => {
    const lab = await makeWorkerLab()
    await lab.upgradeTo('v2')
    const url = await pushedLink(lab)
    const part = await fetchLink(url, { range: 'bytes=4-' })
    expect(part.status).toBe(206)
    expect(part.headers.get('content-range')).toBe(`bytes 4-10/${FILE.length}`)
    expect(await part.text()).toBe(FILE.slice(4))
    const etag = part.headers.get('etag')!
    const same = await fetchLink(url, { range: 'bytes=-2', 'if-range': etag })
    expect([same.status, await same.text()]).toEqual([206, FILE.slice(-2)])
    const other = await fetchLink(url, { range: 'bytes=-2', 'if-range': '"another file"' })
    expect([other.status, await other.text()]).toEqual([200, FILE])
    const beyond = await fetchLink(url, { range: 'bytes=11-' })
    expect([beyond.status, beyond.headers.get('content-range')]).toEqual([416, `bytes */${FILE.length}`])
    expect((await fetchLink(url, { 'if-none-match': etag })).status).toBe(304)
    const head = await fetchLink(url, {}, 'HEAD')
    expect([head.status, head.headers.get('content-length'), await head.text()]).toEqual([200, '11', ''])
  })

  it('stops while the task is paused or its product frozen, and goes on afterwards', async () => {
    const lab = await makeWorkerLab()
    const task = await lab.upgradeTo('v2')
    const url = await pushedLink(lab)
    const path = `/api/v1/products/${lab.productId}`
    await task.post('/pause')
    const paused = await fetchLink(url)
    expect([paused.status, paused.headers.get('retry-after')]).toEqual([503, '60'])
    await task.post('/resume')
    expect((await fetchLink(url)).status).toBe(200)
    expect((await lab.admin.call('POST', `${path}/freeze`)).status).toBe(200)
    expect((await fetchLink(url)).status).toBe(503)
    expect((await lab.admin.call('POST', `${path}/unfreeze`)).status).toBe(200)
    expect((await fetchLink(url)).status).toBe(200)
  })

  it('is dead once the device or the task is cancelled, or the package recalled', async () => {
    const lab = await makeWorkerLab(3)
    const [one, two, three] = lab.devices as [LabDevice, LabDevice, LabDevice]
    const task = await lab.upgradeTo('v2', { devices: { ids: [one.id, two.id] } })
    const links = [await pushedLink(lab, one), await pushedLink(lab, two)] as const
    await task.post(`/devices/${one.id}/cancel`)
    expect((await fetchLink(links[0])).status).toBe(410)
    expect((await fetchLink(links[1])).status).toBe(200)
    await task.post('/cancel')
    expect((await fetchLink(links[1])).status).toBe(410)

    const packageId = await lab.addPackage('v3')
    await lab.addTask(packageId, { devices: { ids: [three.id] } })
    const recalled = await pushedLink(lab, three)
    expect((await lab.admin.call('POST', `/api/v1/packages/${packageId}/recall`)).status).toBe(200)
    expect((await fetchLink(recalled)).status).toBe(410)
  })

  it('expires with the time that the policy gives it', async () => {
    const lab = await makeWorkerLab()
    await lab.upgradeTo('v2', { policy: { downloadTtlSeconds: 60 } })
    const url = await pushedLink(lab)
    moveClock(61_000)
    const answer = await fetchLink(url)
    expect([answer.status, await answer.json()]).toMatchObject([403, { code: 'download.expired' }])
  })

  it('cannot be guessed, nor changed', async () => {
    const lab = await makeWorkerLab()
    await lab.upgradeTo('v2')
    const url = await pushedLink(lab)
    const token = url.slice(url.lastIndexOf('/') + 1)
    const flip = (at: number) => token.slice(0, at) + (token[at] === 'A' ? 'B' : 'A') + token.slice(at + 1)
    for (const forged of [flip(0), flip(30), flip(45), flip(60), token.slice(1), `${token}A`, 'x', '%00']) {
      expect((await fetchLink(`${env.PUBLIC_URL}/d/${forged}`)).status, forged).toBe(404)
    }
  })

  it('stands for a device of a task: for another there is nothing', async () => {
    const lab = await makeWorkerLab()
    const task = await lab.upgradeTo('v2')
    await lab.push(lab.devices[0]!)
    const key = await importTokenKey(env.DOWNLOAD_SIGNING_KEY!)
    const grant = {
      taskId: task.id,
      deviceId: lab.devices[0]!.id,
      packageIndex: 0,
      expiresAt: Date.now() + 60_000,
    }
    const open = async (more: Partial<typeof grant>) =>
      (await fetchLink(`${env.PUBLIC_URL}/d/${await makeToken(key, { ...grant, ...more })}`)).status
    expect(await open({})).toBe(200)
    expect(await open({ deviceId: newId('dev') })).toBe(410)
    expect(await open({ taskId: newId('tsk') })).toBe(410)
    expect(await open({ packageIndex: 1 })).toBe(410)
  })

  it('shows in the device’s history when the download began and was complete, each once', async () => {
    const lab = await makeWorkerLab()
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    const url = await pushedLink(lab)
    const noted = async () =>
      (await task.device(device)).events
        .map(({ kind }: { kind: string }) => kind)
        .filter((kind: string) => KINDS.includes(kind))
    expect(await (await fetchLink(url, { range: 'bytes=0-3' })).text()).toBe('firm')
    await until('it began', async () => (await noted()).length === 1)
    await (await fetchLink(url, { range: 'bytes=4-' })).text()
    await until('it is complete', async () => (await noted()).length === 2)
    await (await fetchLink(url)).text()
    await lab.unexpected()
    expect(await noted()).toEqual(KINDS)
    expect(JSON.stringify(await task.device(device))).not.toContain('/d/')
  })

  it('makes −2 in a paused task a link to replace, not a Failure', async () => {
    const lab = await makeWorkerLab()
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    await pushedLink(lab)
    await lab.bridge.post([progresses(device, 10)])
    await task.post('/pause')
    await lab.bridge.post([progresses(device, -2)])
    expect(await task.device(device)).toMatchObject({ status: 'upgrading' })
    await task.post('/resume')
    expect((await fetchLink(await pushedLink(lab))).status).toBe(200)
  })

  it('goes out over HTTPS too', async () => {
    const lab = await makeWorkerLab()
    lab.bridge.close()
    const task = await lab.upgradeTo('v2')
    await task.reaches(lab.devices[0]!, 'pending')
    const { body } = await over(lab.devices[0]!)('GET', '/device/v1/upgrade')
    expect(await (await fetchLink(body.params.url)).text()).toBe(FILE)
  })
})

describe('a token', () => {
  const grant = {
    taskId: newId('tsk'),
    deviceId: newId('dev'),
    packageIndex: 49,
    expiresAt: 1_900_000_000_000,
  }

  it('says what it was made of, to who has the key', async () => {
    const key = await importTokenKey('a secret')
    const token = await makeToken(key, grant)
    expect(token).toHaveLength(TOKEN_LENGTH)
    expect(await readToken(key, token)).toEqual(grant)
    expect(await readToken(await importTokenKey('another'), token)).toBeUndefined()
  })
})

describe('an installation', () => {
  const request = {
    ...{ mode: 'worker' as const, taskId: newId('tsk'), deviceId: newId('dev'), packageIndex: 0 },
    ...{ storageKey: 'k', ttlSeconds: 60, now: Date.now() },
  }
  const link = (more: Record<string, string>) => createLinker({ ...env, ...more })(request)

  it('keeps every link under 128 characters, or says which setting is at fault', async () => {
    const longest = `https://${'a'.repeat(45)}`
    expect((await link({ PUBLIC_URL: longest })).url).toHaveLength(127)
    await expect(link({ PUBLIC_URL: `${longest}b` })).rejects.toThrow('PUBLIC_URL of at most 53 characters')
    await expect(link({ PUBLIC_URL: '' })).rejects.toThrow('PUBLIC_URL')
    await expect(link({ DOWNLOAD_SIGNING_KEY: '' })).rejects.toThrow('DOWNLOAD_SIGNING_KEY')
  })
})
