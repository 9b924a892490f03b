import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { eventually, type System, startSystem } from './system.ts'
import { counts } from './system-operator.ts'

let system: System
beforeAll(async () => {
  system = await startSystem({ withBridge: true, withDownloads: false })
})
afterAll(() => system.close())

it('a task with a startAt starts by its alarm, even if its object was evicted meanwhile', async () => {
  const operator = await system.newTenant()
  const productId = await operator.product()
  const known = await operator.device(productId, 'early')
  const device = await system.connect(known.username)
  await device.listen()
  await device.inform('v1.0.0')
  const { id: packageId } = await operator.pkg(productId, 'v1.1.0', randomBytes(1000))
  const startAt = Date.now() + 5000
  const task = await operator.task(packageId, { startAt: new Date(startAt).toISOString() })
  expect(task).toMatchObject({ status: 'scheduled', startAt: new Date(startAt).toISOString() })
  await eventually(async () => expect((await operator.view(task.id)).counts).toEqual(counts({ pending: 1 })))
  await system.worker.evictDurableObject('UPGRADE_TASK', { name: task.id })

  // From here on nothing calls the object before its alarm sends the notice.
  await device.notice(1)
  expect(Date.now()).toBeGreaterThanOrEqual(startAt)
  await eventually(async () => {
    expect(await operator.view(task.id)).toMatchObject({ status: 'running', counts: counts({ pushed: 1 }) })
  })
  await device.progress(100)
  await eventually(async () => expect((await operator.view(task.id)).status).toBe('finished'))
  expect(system.errors()).toEqual([])
})
