import { expect, it, onTestFinished, vi } from 'vitest'
import { BridgeHub } from '../../../src/hub/hub-object.ts'
import { UpgradeTask } from '../../../src/tasks/object/task-object.ts'
import { type Lab, type LabDevice, makeLab, over, progresses, reports, requests } from '../lab.ts'
import { taken } from '../lab-bridge.ts'
import { moveClock } from '../lab-clock.ts'

const freeze = ({ admin, productId }: Lab) => admin.call('POST', `/api/v1/products/${productId}/freeze`)
const unfreeze = ({ admin, productId }: Lab) => admin.call('POST', `/api/v1/products/${productId}/unfreeze`)

/** Runs `act` once, after the task has chosen a page of notices and before the page goes to the bridge. */
function onPageUnderWay(act: () => Promise<unknown>): { happened: () => boolean } {
  let acted = false
  const { prepare } = BridgeHub.prototype
  vi.spyOn(BridgeHub.prototype, 'prepare').mockImplementation(async function (
    this: BridgeHub,
    ...asked: Parameters<BridgeHub['prepare']>
  ) {
    if (!acted) {
      acted = true
      await act()
    }
    return prepare.apply(this, asked)
  } as never)
  onTestFinished(() => void vi.restoreAllMocks())
  return { happened: () => acted }
}

it('after a freeze no notice goes out, whatever asks for one', async () => {
  const lab = await makeLab(4)
  const [pushed, upgrading, returned, fresh] = lab.devices as [LabDevice, LabDevice, LabDevice, LabDevice]
  const ids = [pushed, upgrading, returned].map(({ id }) => id)
  const task = await lab.upgradeTo('v2', { devices: { ids } })
  await lab.push(pushed)
  await lab.push(upgrading)
  await lab.bridge.post([progresses(upgrading, 10)])
  const { frame } = await lab.bridge.notice(returned)
  expect((await freeze(lab)).body).toMatchObject({ frozen: true })
  await lab.bridge.post([taken(frame, 'returned')])
  const late = await lab.upgradeTo('v3', { devices: { ids: [fresh.id] } })
  await lab.bridge.post([reports(pushed, 'v1'), requests(pushed, '1'), requests(upgrading, '2')])
  for (const device of lab.devices) {
    expect((await over(device)('GET', '/device/v1/upgrade')).body.params).toEqual({})
  }
  moveClock(10 * 60_000)
  await lab.bridge.post([])
  expect(await lab.unexpected()).toEqual([])
  expect(await task.get()).toMatchObject({
    status: 'running',
    counts: { pushed: 1, upgrading: 1, pending: 1 },
  })
  expect((await unfreeze(lab)).body).toMatchObject({ frozen: false })
  for (const device of [pushed, returned, fresh]) await lab.push(device)
  expect((await late.device(fresh)).status).toBe('pushed')
})

it('a freeze holds back a page of notices that is about to go out, and the page goes out after the unfreeze', async () => {
  const lab = await makeLab(20)
  const page = onPageUnderWay(async () => expect((await freeze(lab)).status).toBe(200))
  const task = await lab.upgradeTo('v2')
  await expect.poll(page.happened).toBe(true)
  expect(await lab.unexpected()).toEqual([])
  moveClock(120_000)
  await lab.bridge.post([])
  expect(await lab.unexpected()).toEqual([])
  expect((await task.get()).counts).toMatchObject({ pending: 20 })
  await unfreeze(lab)
  for (const device of lab.devices) await lab.push(device)
  expect((await task.get()).counts).toMatchObject({ pushed: 20 })
})

it('a freeze holds back the notice that a device is fetching over HTTPS', async () => {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  lab.bridge.close()
  await lab.upgradeTo('v2')
  expect(await lab.unexpected()).toEqual([])
  const page = onPageUnderWay(async () => expect((await freeze(lab)).status).toBe(200))
  const fetched = await over(device)('GET', '/device/v1/upgrade')
  expect(page.happened()).toBe(true)
  expect(fetched.body.params).toEqual({})
})

it('a freeze stops every task of the product and none of another', async () => {
  const [lab, other] = [await makeLab(30), await makeLab(1)]
  const onHold = lab.devices.map(({ id }) => ({ devices: { ids: [id] } }))
  const told = vi.spyOn(UpgradeTask.prototype, 'freeze')
  onTestFinished(() => void vi.restoreAllMocks())
  for (const [index, devices] of onHold.entries()) {
    const startAt = new Date(Date.now() + 3600_000).toISOString()
    await lab.upgradeTo(`v${index + 2}`, { ...devices, startAt })
  }
  expect((await freeze(lab)).status).toBe(200)
  expect(told).toHaveBeenCalledTimes(30)
  await other.upgradeTo('v2')
  await other.push(other.devices[0]!)
  moveClock(3600_000)
  await lab.bridge.post([])
  expect(await lab.unexpected()).toEqual([])
})

it('a product stays frozen if a task cannot be reached, and the answer says so', async () => {
  const lab = await makeLab(1)
  await lab.upgradeTo('v2', { startAt: new Date(Date.now() + 3600_000).toISOString() })
  vi.spyOn(console, 'error').mockImplementation(() => {})
  const away = vi.spyOn(UpgradeTask.prototype, 'freeze').mockImplementation(async () => {
    throw new Error('away')
  })
  onTestFinished(() => void vi.restoreAllMocks())
  const first = await freeze(lab)
  expect(first.body).toMatchObject({ status: 503, code: 'product.freeze_unfinished' })
  expect(first.headers.get('retry-after')).toBe('1')
  const product = `/api/v1/products/${lab.productId}`
  expect((await lab.admin.call('GET', product)).body.frozen).toBe(true)
  away.mockRestore()
  expect((await freeze(lab)).body).toMatchObject({ frozen: true })
  const { items } = (await lab.admin.call('GET', '/api/v1/audit?action=product.freeze')).body
  expect(items).toMatchObject([{ detail: null }, { detail: { unfinished: true } }])
  expect(items[0].target).toBe(lab.productId)
})
