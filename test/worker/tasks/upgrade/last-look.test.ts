import { afterEach, describe, expect, it, vi } from 'vitest'
import { type Lab, type LabDevice, makeLab, over, reports } from '../../lab.ts'
import { meanwhile } from '../../meanwhile.ts'

afterEach(() => vi.restoreAllMocks())

async function succeeds(answer: Promise<{ status: number; body: unknown }>): Promise<void> {
  const { status, body } = await answer
  expect(status, JSON.stringify(body)).toBeLessThan(300)
}

/** A device that reported v1, of a product with a diff from v1 and the full package of v2. */
async function onV1(credit?: number) {
  const lab = await makeLab(1, {}, credit)
  const [device] = lab.devices as [LabDevice]
  await lab.bridge.post([reports(device, 'v1')])
  const packageIds = [
    await lab.addPackage('v2', { kind: 'diff', sourceVersion: 'v1' }),
    await lab.addPackage('v2'),
  ]
  const change = (body: Record<string, unknown>) =>
    succeeds(lab.admin.call('PATCH', `/api/v1/devices/${device.id}`, body))
  const start = (more: Record<string, unknown> = {}) =>
    lab.addTask('', { packageId: undefined, packageIds, ...more })
  return { lab, device, change, start }
}

const asks = async (device: LabDevice) => (await over(device)('GET', '/device/v1/upgrade')).body.params

const changes: [string, (at: Awaited<ReturnType<typeof onV1>>) => Promise<unknown>][] = [
  ['disabled', ({ change }) => change({ enabled: false })],
  ['moved', async ({ lab, change }) => change({ productId: await anotherProduct(lab) })],
  ['deleted', ({ lab, device }) => succeeds(lab.admin.call('DELETE', `/api/v1/devices/${device.id}`))],
  [
    'of a product that was frozen',
    ({ lab }) => succeeds(lab.admin.call('POST', `/api/v1/products/${lab.productId}/freeze`)),
  ],
]

async function anotherProduct(lab: Lab): Promise<string> {
  const { body } = await lab.admin.call('POST', '/api/v1/products', { name: 'another' })
  return body.id
}

describe('what is true of a device is looked at again when its notice goes out', () => {
  it('a device that reports another version while its notice is prepared gets no diff from the old one', async () => {
    const { lab, device, start } = await onV1()
    meanwhile(lab, () => lab.bridge.post([reports(device, 'v1.5')]))
    const task = await start()
    const { notice } = await lab.push(device)
    expect(notice.params).not.toHaveProperty('isDiff')
    expect((await task.device(device)).status).toBe('pushed')
  })

  it('nor over HTTPS', async () => {
    const { lab, device, start } = await onV1(0)
    await start()
    await lab.unexpected()
    meanwhile(lab, () => lab.bridge.post([reports(device, 'v1.5')]))
    const notice = await asks(device)
    expect(notice).toMatchObject({ version: 'v2' })
    expect(notice).not.toHaveProperty('isDiff')
  })

  it.each(changes)('a device that is %s while its notice is prepared gets none', async (_what, happens) => {
    const at = await onV1()
    meanwhile(at.lab, () => happens(at))
    await at.start()
    expect(await at.lab.unexpected()).toEqual([])
  })
})
