import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { expect, it, onTestFinished, vi } from 'vitest'
import { MIGRATIONS, migrate } from '../../../src/tasks/storage/migrations.ts'
import { type LabTask, makeLab, outcomeOf, over, progresses, reports } from '../lab.ts'

const TABLES = [
  'task',
  'selection',
  'devices',
  'failures',
  'failure_reasons',
  'samples',
  'events',
  'newcomers',
  'farewells',
  'outbox',
  'timers',
  'offers',
  'taken_from',
]
/** What a later release may do: it only adds. */
const NEXT = [
  ...MIGRATIONS,
  [
    ...TABLES.map((table) => `ALTER TABLE ${table} ADD COLUMN later TEXT;`),
    'CREATE TABLE later (one INTEGER PRIMARY KEY);',
  ].join('\n'),
]

const stubOf = (task: LabTask) => env.UPGRADE_TASK.getByName(task.id)
const inStorage = <T>(task: LabTask, look: (storage: DurableObjectStorage) => T | Promise<T>): Promise<T> =>
  runInDurableObject(stubOf(task), (_, { storage }) => look(storage))
const versionOf = (task: LabTask) => inStorage(task, ({ kv }) => kv.get<number>('schemaVersion'))
const columnsOf = (storage: DurableObjectStorage, table: string) =>
  storage.sql.exec(`SELECT * FROM pragma_table_info('${table}')`).toArray().length

/** Puts the object into a state that no release can open, until the returned function is called. */
async function breakSchema(task: LabTask): Promise<() => Promise<void>> {
  await inStorage(task, ({ kv }) => kv.put('schemaVersion', 0))
  await evictDurableObject(stubOf(task))
  const logged = vi.spyOn(console, 'error').mockImplementation(() => {})
  onTestFinished(() => logged.mockRestore())
  return () => inStorage(task, ({ kv }) => kv.put('schemaVersion', MIGRATIONS.length))
}

it('a task opened by the next release, by this one and by the next one again goes on all the time', async () => {
  const lab = await makeLab(3)
  const [good, bad, slow] = lab.devices
  const task = await lab.upgradeTo('v2')
  await lab.push(good!)
  await inStorage(task, (storage) => migrate(storage, NEXT))
  await evictDurableObject(stubOf(task))

  // This release has one migration less. It still takes in, offers, counts failures, retries and settles.
  await lab.push(bad!)
  await lab.bridge.post([progresses(good!, 100), reports(good!, 'v2'), progresses(bad!, -1)])
  await task.reaches(good!, 'success')
  await task.reaches(bad!, 'failure')
  expect((await task.post(`/devices/${bad!.id}/retry`)).status).toBe(200)
  await lab.push(bad!)
  await lab.push(slow!)
  expect(await versionOf(task)).toBe(NEXT.length)
  const more = await lab.upgradeTo('v3', { devices: { ids: [good!.id] } })
  await inStorage(more, (storage) => migrate(storage, NEXT))
  await lab.push(good!)
  expect((await more.get()).counts.pushed).toBe(1)

  await evictDurableObject(stubOf(task))
  await inStorage(task, (storage) => migrate(storage, NEXT))
  expect(await versionOf(task)).toBe(NEXT.length)
  await lab.bridge.post([progresses(bad!, 100), reports(bad!, 'v2')])
  await task.reaches(bad!, 'success')
  expect((await task.post('/cancel')).status).toBe(200)
  await task.reaches(slow!, 'cancelled')
  await lab.unexpected()
  expect([await outcomeOf(task, good!), await outcomeOf(task, slow!)]).toMatchObject([
    { status: 'success' },
    { status: 'cancelled' },
  ])
})

it.each([1, 2])('a version that an earlier release wrote too low by %s does no harm', async (by) => {
  const lab = await makeLab(1)
  const task = await lab.upgradeTo('v2')
  await inStorage(task, ({ kv }) => kv.put('schemaVersion', MIGRATIONS.length - by))
  await evictDurableObject(stubOf(task))
  await lab.push(lab.devices[0]!)
  await task.reaches(lab.devices[0]!, 'pushed')
  expect(await versionOf(task)).toBe(MIGRATIONS.length)
})

it('a migration that fails leaves the schema as it was', async () => {
  const lab = await makeLab(1)
  const task = await lab.upgradeTo('v2')
  await inStorage(task, (storage) => {
    const before = columnsOf(storage, 'devices')
    const broken = [...MIGRATIONS, 'ALTER TABLE devices ADD COLUMN later TEXT', 'CREATE TABLE task (one)']
    expect(() => migrate(storage, broken)).toThrow('already exists')
    expect(columnsOf(storage, 'devices')).toBe(before)
  })
  expect(await versionOf(task)).toBe(MIGRATIONS.length)
})

it('a task whose object cannot be opened is a 503 for all, and goes on as soon as it can', async () => {
  const lab = await makeLab(1)
  const device = lab.devices[0]!
  const task = await lab.upgradeTo('v2')
  await lab.push(device)
  const mend = await breakSchema(task)

  const seen = await lab.admin.call('GET', `/api/v1/tasks/${task.id}`)
  expect([seen.status, seen.headers.get('retry-after')]).toEqual([503, '2'])
  const asked = await over(device)('GET', '/device/v1/upgrade')
  expect([asked.status, asked.headers.get('retry-after')]).toEqual([503, '2'])
  const [told] = await lab.bridge.post([progresses(device, 40)])
  expect(told).toMatchObject({ status: 'retry' })

  await mend()
  expect((await lab.bridge.post([progresses(device, 40)]))[0]).toMatchObject({ status: 'taken' })
  await task.reaches(device, 'upgrading')
})

it('an alarm of an object that cannot be opened rings again, and does not fail', async () => {
  const lab = await makeLab(1)
  const task = await lab.upgradeTo('v2')
  await lab.push(lab.devices[0]!)
  const mend = await breakSchema(task)
  const before = Date.now()
  await inStorage(task, (storage) => storage.setAlarm(before + 3_600_000))
  expect(await runDurableObjectAlarm(stubOf(task))).toBe(true)
  const next = await inStorage(task, (storage) => storage.getAlarm())
  expect(next).toBeGreaterThan(before)
  expect(next).toBeLessThan(before + 3_600_000)
  await mend()
  await lab.bridge.post([progresses(lab.devices[0]!, 100), reports(lab.devices[0]!, 'v2')])
  await task.becomes('finished')
})
