import { env, exports } from 'cloudflare:workers'
import { Buffer } from 'node:buffer'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { newId } from '../../../src/common/ids.ts'
import { createLinker } from '../../../src/links/linker.ts'
import { importTokenKey, makeToken } from '../../../src/links/token.ts'
import { UpgradeTask } from '../../../src/tasks/object/task-object.ts'
import { type Lab, type LabDevice, makeLab, over, progresses, requests } from '../lab.ts'
import { moveClock, until } from '../lab-clock.ts'
import { putBytes, randomBytes } from '../packages/packages-fixture.ts'

const FILE = 'firmware v2'
const KINDS = ['download began', 'download completed']

const fetchLink = (url: string, headers: Record<string, string> = {}, method = 'GET') =>
  exports.default.fetch(url, { method, headers })

/** Makes a task for a file of random bytes, and returns the link that its first device got. */
async function pushBytes(lab: Lab, length: number) {
  const draft = { productId: lab.productId, name: 'firmware', version: 'v2' }
  const made = await lab.admin.call('POST', '/api/v1/packages', draft)
  const bytes = randomBytes(length)
  const put = await putBytes(lab.admin, `/api/v1/packages/${made.body.id}/file?filename=a.bin`, bytes)
  expect(put.status).toBe(200)
  const task = await lab.addTask(made.body.id)
  return { task, bytes, packageId: made.body.id as string, url: await pushedLink(lab) }
}

/** Reads until the response ends. Returns the number of bytes, and whether the response broke off. */
async function drain(reader: ReadableStreamDefaultReader<Uint8Array>) {
  let received = 0
  try {
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      received += chunk.value.length
    }
    return { received, cut: false }
  } catch {
    return { received, cut: true }
  }
}

const makeWorkerLab = (devices = 1) => makeLab(devices, { downloads: 'worker' })

async function pushedLink(lab: Lab, device: LabDevice = lab.devices[0]!): Promise<string> {
  return (await lab.push(device)).notice.params.url
}

describe('a link through the Worker', () => {
  it('a link through the Worker is shorter than 128 characters and leads to the file', async () => {
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

  it('a link through the Worker serves ranges, so that a download goes on where it was cut off', async () => {
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

  it('a link through the Worker serves every byte, in whichever parts the file is fetched', async () => {
    const lab = await makeWorkerLab()
    const { bytes, url } = await pushBytes(lab, 300_001)
    const parts: Uint8Array[] = []
    for (const [from, to] of [
      [0, 0],
      [1, 65_535],
      [65_536, 200_000],
      [200_001, ''],
    ]) {
      const part = await fetchLink(url, { range: `bytes=${from}-${to}` })
      expect(part.status).toBe(206)
      parts.push(await part.bytes())
    }
    expect(Buffer.concat(parts).equals(bytes)).toBe(true)
    const whole = await fetchLink(url)
    expect(Buffer.from(await whole.bytes()).equals(bytes)).toBe(true)
    expect(Object.fromEntries(whole.headers)).toMatchObject({
      'content-type': 'application/octet-stream',
      'content-disposition': "attachment; filename*=UTF-8''a.bin",
      'cache-control': 'private, no-store',
      'last-modified': expect.stringMatching(/GMT$/),
    })
    const several = await fetchLink(url, { range: 'bytes=0-1,5-6' })
    expect([several.status, (await several.bytes()).length]).toEqual([200, 300_001])
    const head = await fetchLink(url, { range: 'bytes=5-' }, 'HEAD')
    expect([head.status, head.headers.get('content-length')]).toEqual([200, '300001'])
    expect((await fetchLink(url, { 'if-none-match': '*' })).status).toBe(304)
  })

  it.each(['pause', 'freeze', 'cancel', 'recall'])(
    'a download through the Worker is cut off by a %s',
    async (what) => {
      const lab = await makeWorkerLab()
      const size = 8 * 1024 * 1024
      const { task, url, packageId } = await pushBytes(lab, size)
      const reader = (await fetchLink(url)).body!.getReader()
      const first = (await reader.read()).value!.length
      if (what === 'freeze') await lab.admin.call('POST', `/api/v1/products/${lab.productId}/freeze`)
      else if (what === 'recall') await lab.admin.call('POST', `/api/v1/packages/${packageId}/recall`)
      else await task.post(`/${what}`)
      moveClock(5_000)
      const { received, cut } = await drain(reader)
      expect(cut).toBe(true)
      expect(first + received).toBeLessThan(size)
      const kinds = (await task.device(lab.devices[0]!)).events.map(({ kind }: { kind: string }) => kind)
      expect(kinds).not.toContain('download completed')
    },
  )

  it('a download goes on while the task runs, and also if the task cannot be reached', async () => {
    const lab = await makeWorkerLab()
    const { url } = await pushBytes(lab, 1024 * 1024)
    const reader = (await fetchLink(url)).body!.getReader()
    await reader.read()
    moveClock(5_000)
    await reader.read()
    const asked = vi
      .spyOn(UpgradeTask.prototype, 'openDownload')
      .mockRejectedValueOnce(new Error('the object moved'))
    onTestFinished(() => asked.mockRestore())
    moveClock(5_000)
    expect((await drain(reader)).cut).toBe(false)
    expect(asked).toHaveBeenCalledOnce()
  })

  it('a link returns 503 while the task is paused, the product frozen or the device disabled, and works again afterwards', async () => {
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
    const device = `/api/v1/devices/${lab.devices[0]!.id}`
    await lab.admin.call('PATCH', device, { enabled: false })
    expect((await fetchLink(url)).status).toBe(503)
    await lab.admin.call('PATCH', device, { enabled: true })
    expect((await fetchLink(url)).status).toBe(200)
  })

  it('a link returns 410 once the device or the task is cancelled or the package recalled', async () => {
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

  it('a link to a file that is missing in the bucket returns 503, is noted and logged, and stops further notices', async () => {
    const lab = await makeWorkerLab(2)
    const { task, packageId, url } = await pushBytes(lab, 100)
    const logged = vi.spyOn(console, 'error').mockImplementation(() => {})
    onTestFinished(() => logged.mockRestore())
    const key = (await env.DB.prepare('SELECT storage_key FROM packages WHERE id = ?')
      .bind(packageId)
      .first<string>('storage_key'))!
    const bytes = await (await env.PACKAGES.get(key))!.arrayBuffer()
    for (const left of [null, bytes.slice(1)]) {
      await (left ? env.PACKAGES.put(key, left) : env.PACKAGES.delete(key))
      for (const method of ['GET', 'HEAD']) {
        const answer = await fetchLink(url, {}, method)
        expect([answer.status, answer.headers.get('retry-after')], method).toEqual([503, '300'])
      }
    }
    expect(JSON.stringify(logged.mock.calls)).toContain('download.file_missing')
    expect(JSON.stringify(logged.mock.calls)).not.toContain(url.slice(url.lastIndexOf('/') + 1))
    await until('it is noted', async () => {
      const { events } = await task.device(lab.devices[0]!)
      return events.filter(({ code }: { code: string }) => code === 'download_missing').length === 4
    })
    expect((await over(lab.devices[1]!)('GET', '/device/v1/upgrade')).body.params).toEqual({})
    expect((await task.get()).waiting).toMatchObject({ code: 'file_changed' })
    await env.PACKAGES.put(key, bytes)
    expect((await fetchLink(url)).status).toBe(200)
  })

  it('a link is in no log, even if the download fails', async () => {
    const lab = await makeWorkerLab()
    await lab.upgradeTo('v2')
    const url = await pushedLink(lab)
    const logged = vi.spyOn(console, 'error').mockImplementation(() => {})
    const asked = vi.spyOn(UpgradeTask.prototype, 'openDownload').mockRejectedValue(new Error('overloaded'))
    onTestFinished(() => {
      logged.mockRestore()
      asked.mockRestore()
    })
    const answer = await fetchLink(url)
    expect([answer.status, await answer.json()]).toMatchObject([500, { code: 'internal' }])
    expect(logged).toHaveBeenCalled()
    expect(JSON.stringify(logged.mock.calls)).not.toContain(url.slice(url.lastIndexOf('/') + 1))
  })

  it("a link expires after the time that the task's policy sets", async () => {
    const lab = await makeWorkerLab()
    await lab.upgradeTo('v2', { policy: { downloadTtlSeconds: 60 } })
    const url = await pushedLink(lab)
    moveClock(61_000)
    const answer = await fetchLink(url)
    expect([answer.status, await answer.json()]).toMatchObject([403, { code: 'download.expired' }])
  })

  it('a link that was guessed or changed returns 404', async () => {
    const lab = await makeWorkerLab()
    await lab.upgradeTo('v2')
    const url = await pushedLink(lab)
    const token = url.slice(url.lastIndexOf('/') + 1)
    const flip = (at: number) => token.slice(0, at) + (token[at] === 'A' ? 'B' : 'A') + token.slice(at + 1)
    for (const forged of [flip(0), flip(30), flip(45), flip(60), token.slice(1), `${token}A`, 'x', '%00']) {
      expect((await fetchLink(`${env.PUBLIC_URL}/d/${forged}`)).status, forged).toBe(404)
    }
  })

  it('a link is valid only for its device, its task and its package', async () => {
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

  it("a device's history shows once when the download began and once when it was complete", async () => {
    const lab = await makeWorkerLab()
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    const url = await pushedLink(lab)
    const noted = async () =>
      (await task.device(device)).events
        .map(({ kind }: { kind: string }) => kind)
        .filter((kind: string) => KINDS.includes(kind))
    expect(await (await fetchLink(url, { range: 'bytes=0-3' })).text()).toBe('firm')
    await until('the download began', async () => (await noted()).length === 1)
    await (await fetchLink(url, { range: 'bytes=4-' })).text()
    await until('the download is complete', async () => (await noted()).length === 2)
    await (await fetchLink(url)).text()
    await lab.unexpected()
    expect(await noted()).toEqual(KINDS)
    expect(JSON.stringify(await task.device(device))).not.toContain('/d/')
  })

  it('the beginning of a download is noted once, even if later messages push its entry out of the history', async () => {
    const lab = await makeWorkerLab()
    const [device] = lab.devices as [LabDevice]
    const task = await lab.upgradeTo('v2')
    const url = await pushedLink(lab)
    await (await fetchLink(url, { range: 'bytes=0-3' })).text()
    const kinds = async () => (await task.device(device)).events.map(({ kind }: { kind: string }) => kind)
    await until('the download began', async () => (await kinds()).includes('download began'))
    await lab.bridge.post(Array.from({ length: 60 }, (_, n) => progresses(device, n + 1)))
    await until('the entry is gone from the history', async () => !(await kinds()).includes('download began'))
    await (await fetchLink(url, { range: 'bytes=4-7' })).text()
    await (await fetchLink(url, { range: 'bytes=8-' })).text()
    await until('the download is complete', async () => (await kinds()).includes('download completed'))
    expect(await kinds()).not.toContain('download began')
  })

  it('−2 in a paused task is no Failure, and the device gets a fresh link', async () => {
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

  it('a device on HTTPS gets a link through the Worker too', async () => {
    const lab = await makeWorkerLab()
    lab.bridge.close()
    const task = await lab.upgradeTo('v2')
    await task.reaches(lab.devices[0]!, 'pending')
    const { body } = await over(lab.devices[0]!)('GET', '/device/v1/upgrade')
    expect(await (await fetchLink(body.params.url)).text()).toBe(FILE)
  })
})

describe('an installation', () => {
  const request = {
    mode: 'worker' as const,
    taskId: newId('tsk'),
    deviceId: newId('dev'),
    packageIndex: 0,
    storageKey: 'k',
    ttlSeconds: 60,
    now: Date.now(),
  }
  const link = (more: Record<string, string>) => createLinker({ ...env, ...more })(request)

  it('a link of 128 characters or more is refused with the name of the setting at fault', async () => {
    const longest = `https://${'a'.repeat(45)}`
    expect((await link({ PUBLIC_URL: longest })).url).toHaveLength(127)
    await expect(link({ PUBLIC_URL: `${longest}b` })).rejects.toThrow('PUBLIC_URL of at most 53 characters')
    await expect(link({ PUBLIC_URL: '' })).rejects.toThrow('PUBLIC_URL')
    await expect(link({ DOWNLOAD_SIGNING_KEY: '' })).rejects.toThrow('DOWNLOAD_SIGNING_KEY')
  })

  it('without a signing key no product can choose downloads through the Worker, and tasks of such products wait', async () => {
    const lab = await makeWorkerLab()
    const key = env.DOWNLOAD_SIGNING_KEY!
    env.DOWNLOAD_SIGNING_KEY = ''
    onTestFinished(() => {
      env.DOWNLOAD_SIGNING_KEY = key
    })
    const asked = { name: 'lamp', downloads: 'worker' }
    const answers = [
      await lab.admin.call('POST', '/api/v1/products', asked),
      await lab.admin.call('PATCH', `/api/v1/products/${lab.productId}`, asked),
    ]
    for (const { status, body } of answers) expect([status, body.code]).toEqual([409, 'downloads.not_set_up'])
    const task = await lab.upgradeTo('v2')
    const [device] = lab.devices as [LabDevice]
    await until('the task waits', async () => /need the secret/.test((await task.get()).waitingFor))
    const due = await over(device)('GET', '/device/v1/upgrade')
    expect(due).toMatchObject({ status: 200, body: { params: {} } })
    const [result] = await lab.bridge.post([requests(device, '17')])
    expect(result).toMatchObject({ status: 'taken' })
  })
})
