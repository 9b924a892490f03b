import { expect, it } from 'vitest'
import { addDevice, type Lab, makeLab, outcomeOf, progresses, reports } from '../lab.ts'
import { until } from '../lab-clock.ts'
import { storedObjects } from './packages-fixture.ts'

const stored = ({ admin, productId }: Lab, id: string) => storedObjects({ ...admin, productId }, id)

it('a recalled package leaves its version to a new one, which a task then sends', async () => {
  const lab = await makeLab()
  const [device] = lab.devices
  const bad = await lab.addPackage('v2')
  await lab.admin.call('POST', `/api/v1/packages/${bad}/recall`)
  const good = await lab.addPackage('v2')
  expect(good).not.toBe(bad)
  const twice = await lab.admin.call('POST', '/api/v1/packages', {
    productId: lab.productId,
    name: 'again',
    version: 'v2',
  })
  expect([twice.status, twice.body.code]).toEqual([409, 'package.exists'])
  const task = await lab.addTask(good)
  await lab.push(device!)
  await lab.bridge.post([progresses(device!, 100), reports(device!, 'v2')])
  await task.becomes('finished')
  expect(
    (await lab.admin.call('POST', '/api/v1/tasks', { packageId: bad, name: 't', devices: 'all' })).status,
  ).toBe(409)
  await lab.admin.call('POST', `/api/v1/packages/${good}/recall`)
  expect(await lab.addPackage('v2')).toBeTruthy()
})

it('packages and then their product are deleted once their tasks are gone, with their files', async () => {
  const lab = await makeLab()
  const [device] = lab.devices
  await lab.bridge.post([reports(device!, 'v1')])
  const packageId = await lab.addPackage('v2')
  const task = await lab.addTask(packageId)
  await lab.push(device!)
  await lab.bridge.post([progresses(device!, 100), reports(device!, 'v2')])
  await until('it ended', async () => (await outcomeOf(task, device!)) !== null)
  const { call } = lab.admin
  expect((await call('DELETE', `/api/v1/packages/${packageId}`)).body.code).toBe('package.in_use')
  await until('it is deleted', async () => (await call('DELETE', `/api/v1/tasks/${task.id}`)).status === 204)
  expect(await stored(lab, packageId)).toHaveLength(1)
  expect((await call('DELETE', `/api/v1/packages/${packageId}`)).status).toBe(204)
  await until('its file is gone', async () => (await stored(lab, packageId)).length === 0)
  expect((await call('DELETE', `/api/v1/products/${lab.productId}`)).body.code).toBe('product.in_use')
  await call('DELETE', `/api/v1/devices/${device!.id}`)
  expect((await call('DELETE', `/api/v1/products/${lab.productId}`)).status).toBe(204)
  expect((await call('GET', `/api/v1/products/${lab.productId}`)).status).toBe(404)
})

it('a package of a task that goes on stays, whatever other tasks of it are gone', async () => {
  const lab = await makeLab()
  await addDevice(lab.admin, lab.productId, 'second')
  const packageId = await lab.addPackage('v2')
  const first = await lab.addTask(packageId)
  await lab.addTask(packageId)
  await first.post('/cancel')
  const { call } = lab.admin
  await until('it is deleted', async () => (await call('DELETE', `/api/v1/tasks/${first.id}`)).status === 204)
  expect((await call('DELETE', `/api/v1/packages/${packageId}`)).body.code).toBe('package.in_use')
})
