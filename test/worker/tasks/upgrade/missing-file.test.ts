import { env } from 'cloudflare:workers'
import { expect, it, vi } from 'vitest'
import { type LabDevice, makeLab, over } from '../../lab.ts'
import { moveClock, untilIdle } from '../../lab-clock.ts'

const MINUTE = 60_000

/** The key of the package's file in the bucket. */
const keyOf = async (packageId: string) =>
  (await env.DB.prepare('SELECT storage_key FROM packages WHERE id = ?')
    .bind(packageId)
    .first<string>('storage_key'))!

/** Takes the file out of the bucket; returns what puts it back. */
async function takeOut(packageId: string) {
  const key = await keyOf(packageId)
  const file = await (await env.PACKAGES.get(key))!.text()
  await env.PACKAGES.delete(key)
  return async () => void (await env.PACKAGES.put(key, file))
}

it('a task whose file is missing from the start warns, says so, tells nobody, and goes on when the file is back', async () => {
  const lab = await makeLab(2)
  const packageId = await lab.addPackage('v2')
  const putBack = await takeOut(packageId)
  const { body: hook } = await lab.admin.call('POST', '/api/v1/webhooks', {
    url: 'http://127.0.0.1:9/hook',
    events: ['task.stalled'],
  })
  const { body: preview } = await lab.admin.call('POST', '/api/v1/tasks/preview', {
    packageId,
    name: 'p',
    devices: 'all',
  })
  expect(preview.warnings).toContainEqual(
    expect.objectContaining({ code: 'file_missing', params: { packageId, version: 'v2' } }),
  )
  const task = await lab.addTask(packageId)
  expect(await lab.unexpected()).toEqual([])
  expect(await task.get()).toMatchObject({
    status: 'running',
    waiting: { code: 'file_missing', params: { packageId, version: 'v2' } },
    waitingFor: expect.stringContaining('is missing in the bucket'),
    counts: { pending: 2 },
  })
  expect((await over(lab.devices[0]!)('GET', '/device/v1/upgrade')).body.params).toEqual({})
  await putBack()
  moveClock(16 * MINUTE)
  await untilIdle()
  for (const device of lab.devices) await lab.push(device)
  expect((await task.get()).waiting).toBeNull()
  const { body } = await lab.admin.call('GET', `/api/v1/webhooks/${hook.id}/deliveries`)
  expect(body.items.map(({ type }: { type: string }) => type)).toEqual(['task.stalled'])
})

it('a file that goes missing during a rollout is found out before the next wave is told', async () => {
  const lab = await makeLab(4)
  const packageId = await lab.addPackage('v2')
  moveClock(1)
  const task = await lab.addTask(packageId, {
    policy: { waves: [{ percent: 50 }, { percent: 100 }] },
  })
  await untilIdle()
  const first = (await lab.unexpected()).length
  const putBack = await takeOut(packageId)
  moveClock(2 * MINUTE)
  await task.post('/waves/next')
  expect(await lab.unexpected()).toHaveLength(first)
  expect((await task.get()).waiting).toMatchObject({ code: 'file_missing' })
  await putBack()
  moveClock(16 * MINUTE)
  await untilIdle()
  expect((await lab.unexpected()).length).toBeGreaterThan(first)
})

it('a wave whose file is missing is not filled up with devices that cannot be told either', async () => {
  const lab = await makeLab(10)
  const packageId = await lab.addPackage('v2')
  await takeOut(packageId)
  moveClock(1)
  const task = await lab.addTask(packageId, { policy: { waves: [{ percent: 20 }, { percent: 100 }] } })
  await untilIdle()
  const { waves: before } = await task.get()
  for (let hour = 0; hour < 4; hour++) {
    moveClock(60 * MINUTE)
    await untilIdle()
  }
  const { waves: after } = await task.get()
  expect(after).toEqual(before)
  expect(await lab.unexpected()).toEqual([])
})

it('a file of another size, and one that was swapped for one of the same size, are sent to nobody', async () => {
  const lab = await makeLab(1)
  const [swapped, longer] = [await lab.addPackage('v2'), await lab.addPackage('v3')]
  const startAt = new Date(Date.now() + 10 * MINUTE).toISOString()
  const tasks = [await lab.addTask(swapped, { startAt }), await lab.addTask(longer, { startAt })]
  await env.PACKAGES.put(await keyOf(swapped), 'firmware vX')
  await env.PACKAGES.put(await keyOf(longer), 'firmware v3 and more')
  moveClock(11 * MINUTE)
  expect(await lab.unexpected()).toEqual([])
  for (const task of tasks) expect((await task.get()).waiting).toMatchObject({ code: 'file_changed' })
})

it('an MD5 package whose file was swapped before its task was made is sent to nobody', async () => {
  const lab = await makeLab(1)
  const packageId = await lab.addPackage('v2', { signMethod: 'MD5' })
  await env.PACKAGES.put(await keyOf(packageId), 'firmware vX')
  const task = await lab.addTask(packageId)
  expect(await lab.unexpected()).toEqual([])
  expect((await task.get()).waiting).toMatchObject({ code: 'file_changed' })
})

it('the bucket is asked once a minute for a task, however many devices ask', async () => {
  const lab = await makeLab(8)
  const head = vi.spyOn(env.PACKAGES, 'head')
  const packageId = await lab.addPackage('v2')
  const key = await keyOf(packageId)
  const looks = () => head.mock.calls.filter(([asked]) => asked === key).length
  const task = await lab.addTask(packageId)
  await untilIdle()
  for (const device of lab.devices as LabDevice[]) await over(device)('GET', '/device/v1/upgrade')
  // One when the task is made, one when it sends.
  expect(looks()).toBe(2)
  expect((await task.get()).counts).toMatchObject({ total: 8 })
  head.mockRestore()
})

it('while the bucket cannot be asked the task waits and says so', async () => {
  const lab = await makeLab(1)
  const packageId = await lab.addPackage('v2')
  const startAt = new Date(Date.now() + MINUTE).toISOString()
  const task = await lab.addTask(packageId, { startAt })
  const fault = new Error('head: We encountered an internal error. Please try again. (10001)')
  const head = vi.spyOn(env.PACKAGES, 'head').mockRejectedValue(fault)
  moveClock(2 * MINUTE)
  expect(await lab.unexpected()).toEqual([])
  expect((await task.get()).waiting).toMatchObject({ code: 'bucket_unavailable' })
  head.mockRestore()
  moveClock(16 * MINUTE)
  await untilIdle()
  await lab.push(lab.devices[0]!)
})
