import { env } from 'cloudflare:workers'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { firmwareText } from '../../firmware-text.ts'
import { makeClient } from '../api.ts'
import { type LabDevice, over, progresses, reports, requests, sha256 } from '../lab.ts'
import { moveClock, until } from '../lab-clock.ts'
import { meanwhile } from '../meanwhile.ts'
import { makeSignedLab, tryTask } from './signed-lab.ts'
import { addKey, makeKey } from './signing-fixture.ts'

afterEach(() => vi.restoreAllMocks())

const asks = async (device: LabDevice) => (await over(device)('GET', '/device/v1/upgrade')).body.params

describe('notices', () => {
  it('a notice has the signature, its key and its counter, over MQTT and HTTPS alike', async () => {
    const lab = await makeSignedLab(2, { requireSignature: true })
    const [device, polling] = lab.devices as [LabDevice, LabDevice]
    const pkg = await lab.addSigned('v2', { securityCounter: 5 })
    const { signature } = (await lab.admin.call('GET', `/api/v1/packages/${pkg}`)).body
    await lab.addTask(pkg)
    const { notice } = await lab.push(device)
    const signed = { digestsign: signature.value, signKeyId: lab.keyId, signCounter: 5 }
    expect(notice.params).toMatchObject({ version: 'v2', sign: sha256('firmware v2'), ...signed })
    expect(await asks(polling)).toMatchObject(signed)
  })

  it('a counter of 0 is left out, an MD5 package is signed too, and an unsigned one has none of the fields', async () => {
    const lab = await makeSignedLab(1)
    const [device] = lab.devices as [LabDevice]
    await lab.addTask(await lab.addSigned('v2', { signMethod: 'MD5' }))
    const { params } = (await lab.push(device)).notice
    expect(params).toMatchObject({ signMethod: 'MD5', signKeyId: lab.keyId })
    expect(params).not.toHaveProperty('signCounter')
    await lab.upgradeTo('v3')
    const unsigned = (await lab.push(device)).notice.params
    expect(Object.keys(unsigned)).toEqual(['version', 'size', 'url', 'signMethod', 'sign'])
  })

  it('a diff and the full package each go out with their own signature', async () => {
    const lab = await makeSignedLab(2, { requireSignature: true })
    const [onV1, unknown] = lab.devices as [LabDevice, LabDevice]
    await lab.bridge.post([reports(onV1, 'v1')])
    const ids = [await lab.addSigned('v2', { kind: 'diff', sourceVersion: 'v1' }), await lab.addSigned('v2')]
    const [diff, full] = await Promise.all(
      ids.map(async (id) => (await lab.admin.call('GET', `/api/v1/packages/${id}`)).body.signature.value),
    )
    await lab.addTask('', { packageId: undefined, packageIds: ids })
    expect((await lab.push(onV1)).notice.params).toMatchObject({ isDiff: 1, digestsign: diff })
    expect((await lab.push(unknown)).notice.params).toMatchObject({ digestsign: full })
  })
})

describe('a task that may not be made', () => {
  it('an unsigned package is in no task where signatures are required, whoever asks', async () => {
    const lab = await makeSignedLab(1, { requireSignature: true })
    const unsigned = await lab.addPackage('v2')
    const signed = await lab.addSigned('v2', { kind: 'diff', sourceVersion: 'v1' })
    for (const role of ['operator', 'admin'] as const) {
      const admin = { ...(await makeClient(role, lab.admin.tenantId)), tenantId: lab.admin.tenantId }
      for (const more of [{}, { startAt: '2099-01-01T00:00:00Z' }, { policy: { dynamic: true } }]) {
        const { status, body } = await tryTask({ ...lab, admin }, [signed, unsigned], more)
        expect([status, body.code, body.errors[0].path]).toEqual([
          422,
          'package.signature_required',
          'packageIds.1',
        ])
      }
    }
    const preview = { packageId: unsigned, name: 'roll out', devices: 'all' }
    expect((await lab.admin.call('POST', '/api/v1/tasks/preview', preview)).status).toBe(422)
    expect((await lab.admin.call('GET', `/api/v1/tasks?productId=${lab.productId}`)).body.items).toEqual([])
  })

  it.each([true, false])(
    'nor is one whose key was retired (signatures required: %s)',
    async (requireSignature) => {
      const lab = await makeSignedLab(1, { requireSignature })
      const pkg = await lab.addSigned('v2')
      await lab.retireKey()
      const { status, body } = await tryTask(lab, [pkg])
      expect([status, body.code]).toEqual([422, 'package.signature_required'])
      expect(body.detail).toContain(lab.keyId)
    },
  )

  it('a key that comes back under another id does not make old signatures good', async () => {
    const lab = await makeSignedLab(1)
    const pkg = await lab.addSigned('v2')
    await lab.retireKey()
    const keyId = await addKey(lab.admin, lab.productId, lab.maker)
    expect((await tryTask(lab, [pkg])).status).toBe(422)
    const again = await lab.addSigned('v3', { by: { maker: lab.maker, keyId } })
    expect((await tryTask(lab, [again])).status).toBe(201)
  })

  it('with two keys at once, what either signed goes out, until its key is retired', async () => {
    const lab = await makeSignedLab(1, { requireSignature: true })
    const [device] = lab.devices as [LabDevice]
    const next = await makeKey()
    const nextId = await addKey(lab.admin, lab.productId, next)
    const byOld = await lab.addSigned('v2')
    const byNew = await lab.addSigned('v3', { by: { maker: next, keyId: nextId } })
    await lab.addTask(byOld)
    expect((await lab.push(device)).notice.params.signKeyId).toBe(lab.keyId)
    await lab.bridge.post([progresses(device, 100), reports(device, 'v2')])
    await lab.addTask(byNew)
    expect((await lab.push(device)).notice.params.signKeyId).toBe(nextId)
    await lab.retireKey()
    expect((await tryTask(lab, [byOld])).status).toBe(422)
    expect((await tryTask(lab, [byNew])).status).toBe(201)
  })
})

type At = Awaited<ReturnType<typeof underWay>>

/** What stops the notices of a task, and what the task says of it. */
const STOPS: [string, { pkg: 'signed' | 'unsigned'; stop: (at: At) => Promise<void>; says: RegExp }][] = [
  [
    'a signature is required now',
    {
      pkg: 'unsigned',
      stop: ({ lab }) => lab.patchProduct({ requireSignature: true }),
      says: /^package pkg_\w+ \(v2\) has no signature, and its product requires one$/,
    },
  ],
  [
    'the key was retired',
    {
      pkg: 'signed',
      stop: ({ lab }) => lab.retireKey(),
      says: /^package pkg_\w+ \(v2\) is signed with sgk_\w+, which is none of the keys of its product any more$/,
    },
  ],
]

/** A task with devices in different states: Pushed, Upgrading, failed, and in a wave that is not open yet. */
async function underWay(kind: 'signed' | 'unsigned') {
  const lab = await makeSignedLab(4)
  const pkg = kind === 'signed' ? await lab.addSigned('v2') : await lab.addPackage('v2')
  const waves = [{ percent: 75, soakMinutes: 600 }, { percent: 100 }]
  const task = await lab.addTask(pkg, { policy: { waves } })
  await until('three have their notice', () => lab.bridge.frames.length === 3)
  const told = new Set(lab.bridge.frames.map(({ notice }) => notice.device))
  const [pushed, upgrading, failed] = lab.devices.filter(({ id }) => told.has(id)) as [
    LabDevice,
    LabDevice,
    LabDevice,
  ]
  const waiting = lab.devices.find(({ id }) => !told.has(id))!
  for (const device of [pushed, upgrading, failed]) await lab.push(device)
  await lab.bridge.post([progresses(upgrading, 10), progresses(failed, -3)])
  return { lab, task, pushed, upgrading, failed, waiting }
}

describe.each(STOPS)('%s', (_what, { pkg, stop, says }) => {
  it('no notice goes out any more, whatever asks for one, and the task says why', async () => {
    const at = await underWay(pkg)
    const { lab, task, pushed, upgrading, waiting } = at
    await stop(at)
    await lab.bridge.post([reports(pushed, 'v1'), requests(pushed, '1'), requests(upgrading, '2')])
    for (const device of lab.devices) expect(await asks(device)).toEqual({})
    moveClock(10 * 60_000)
    await lab.bridge.post([])
    expect(await lab.unexpected()).toEqual([])
    const { waitingFor, waiting: because, status } = await task.get()
    expect(waitingFor).toMatch(says)
    expect(because.params.version).toBe('v2')
    expect(status).toBe('running')
    expect((await task.device(pushed)).waitingFor).toMatch(says)
    expect((await task.device(waiting)).status).toBe('pending')
  })

  it('neither the next wave nor a retry is possible: 422', async () => {
    const at = await underWay(pkg)
    const { task, failed } = at
    await stop(at)
    for (const path of ['/waves/next', '/retry', `/devices/${failed.id}/retry`]) {
      const { status, body } = await task.post(path)
      expect([status, body.code]).toEqual([422, 'package.signature_required'])
    }
    expect((await task.device(failed)).status).toBe('failure')
    expect((await task.get()).waves[1].openedAt).toBeNull()
  })

  it('what the devices under way report is still taken', async () => {
    const at = await underWay(pkg)
    const { lab, task, upgrading } = at
    await stop(at)
    await lab.bridge.post([progresses(upgrading, 100), reports(upgrading, 'v2')])
    await task.reaches(upgrading, 'success')
  })

  it('a page of notices that is being prepared stays here', async () => {
    const lab = await makeSignedLab(3)
    const id = pkg === 'signed' ? await lab.addSigned('v2') : await lab.addPackage('v2')
    meanwhile(lab, () => stop({ lab } as At))
    const task = await lab.addTask(id)
    await until('the task says why', async () => says.test((await task.get()).waitingFor))
    moveClock(10_000)
    expect(await lab.unexpected()).toEqual([])
    expect((await task.get()).counts).toMatchObject({ pending: 3 })
  })

  it('a scheduled task starts without a notice, and says why', async () => {
    const lab = await makeSignedLab(1)
    const [device] = lab.devices as [LabDevice]
    const id = pkg === 'signed' ? await lab.addSigned('v2') : await lab.addPackage('v2')
    const task = await lab.addTask(id, { startAt: new Date(Date.now() + 3_600_000).toISOString() })
    await stop({ lab } as At)
    moveClock(3_700_000)
    await task.becomes('running')
    expect(await lab.unexpected()).toEqual([])
    expect(await task.get()).toMatchObject({
      waitingFor: expect.stringMatching(says),
      counts: { pending: 1 },
    })
    expect(await asks(device)).toEqual({})
  })

  it('the task takes no device from an older one', async () => {
    const lab = await makeSignedLab(1)
    const [device] = lab.devices as [LabDevice]
    const older = await lab.addTask(await lab.addPackage('v1.9'))
    await lab.push(device)
    const id = pkg === 'signed' ? await lab.addSigned('v2') : await lab.addPackage('v2')
    await lab.addTask(id, { startAt: new Date(Date.now() + 3_600_000).toISOString() })
    await stop({ lab } as At)
    moveClock(3_700_000)
    expect(await lab.unexpected()).toEqual([])
    expect((await older.device(device)).status).toBe('pushed')
  })
})

it('where no signature is required any more, the task goes on at once', async () => {
  const lab = await makeSignedLab(1)
  const [device] = lab.devices as [LabDevice]
  const pkg = await lab.addPackage('v2')
  const task = await lab.addTask(pkg, { startAt: new Date(Date.now() + 3_600_000).toISOString() })
  await lab.patchProduct({ requireSignature: true })
  moveClock(3_700_000)
  await until('the task says why', async () => /no signature/.test((await task.get()).waitingFor))
  await lab.patchProduct({ requireSignature: false })
  await lab.push(device)
})

it("another product's keys and rules change nothing", async () => {
  const [lab, other] = [await makeSignedLab(1), await makeSignedLab(1)]
  const [device] = lab.devices as [LabDevice]
  const task = await lab.addTask(await lab.addSigned('v2'))
  await lab.push(device)
  await other.retireKey()
  await other.patchProduct({ requireSignature: true })
  await lab.bridge.post([reports(device, 'v1')])
  expect((await lab.push(device)).notice.params.signKeyId).toBe(lab.keyId)
  expect((await task.get()).waitingFor).toBeNull()
})

describe('what waits for signatures', () => {
  /** A task that begins in a minute, with a package whose key is retired by then. */
  async function blocked() {
    const lab = await makeSignedLab(1)
    const [device] = lab.devices as [LabDevice]
    const startAt = new Date(Date.now() + 60_000).toISOString()
    const packageId = await lab.addSigned('v2')
    const task = await lab.addTask(packageId, { startAt })
    await lab.retireKey()
    moveClock(61_000)
    await until('it waits', async () => (await task.device(device)).waiting?.code === 'signature_key_retired')
    return { lab, device, task, packageId }
  }

  it('a device that asks over MQTT hears that nothing is due', async () => {
    const { lab, device } = await blocked()
    await lab.bridge.post([requests(device, '78')])
    await until('the reply', async () => {
      await lab.bridge.flushed()
      return lab.bridge.replies.length === 1
    })
    expect(JSON.parse(lab.bridge.replies[0]!.payload)).toEqual({ id: '78', code: 200, params: {} })
  })

  it('a package whose key was retired is signed anew by another key, and a new task sends it', async () => {
    const { lab, device, task, packageId } = await blocked()
    const maker = await makeKey()
    const keyId = await addKey(lab.admin, lab.productId, maker)
    const path = `/api/v1/packages/${packageId}/signature`
    const wrong = await lab.admin.call('PUT', path, { keyId, value: await maker.sign('something else') })
    expect([wrong.status, wrong.body.code]).toEqual([422, 'package.signature_invalid'])
    const value = await maker.sign(firmwareText({ version: 'v2', file: 'firmware v2' }))
    const signed = await lab.admin.call('PUT', path, { keyId, value })
    expect(signed.body).toMatchObject({ state: 'ready', signature: { keyId, value } })
    // While its key is in force, a ready package never changes.
    expect((await lab.admin.call('PUT', path, { keyId, value })).body.code).toBe('package.ready')
    await task.post('/cancel')
    await lab.addTask(packageId)
    expect((await lab.push(device)).notice.params).toMatchObject({ signKeyId: keyId, digestsign: value })
  })

  it('a repeat of the call that lifts the requirement tells the tasks that the first one missed', async () => {
    const lab = await makeSignedLab(1)
    const [device] = lab.devices as [LabDevice]
    const packageId = await lab.addPackage('v2')
    const task = await lab.addTask(packageId, { startAt: new Date(Date.now() + 60_000).toISOString() })
    await lab.patchProduct({ requireSignature: true })
    moveClock(61_000)
    await until('it waits', async () => (await task.device(device)).waiting?.code === 'signature_missing')
    for (let poll = 0; poll < 6; poll++) await asks(device)
    await env.DB.prepare('UPDATE products SET require_signature = 0 WHERE id = ?').bind(lab.productId).run()
    await lab.patchProduct({ requireSignature: false })
    expect((await lab.push(device)).notice.params).toMatchObject({ version: 'v2' })
  })
})
