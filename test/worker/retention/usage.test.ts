import { expect, it } from 'vitest'
import { makeClient } from '../api.ts'
import { makeLab, outcomeOf, progresses, reports } from '../lab.ts'
import { until } from '../lab-clock.ts'

it('root sees what each tenant has stored, and the database; an admin only their own tenant', async () => {
  const lab = await makeLab(2)
  const [device] = lab.devices
  const other = await makeLab(1)
  await lab.bridge.post([reports(device!, 'v1')])
  const task = await lab.upgradeTo('v2')
  await lab.push(device!)
  await lab.bridge.post([progresses(device!, 100), reports(device!, 'v2')])
  await task.post('/cancel')
  await until('it ended', async () => (await outcomeOf(task, lab.devices[1]!)) !== null)
  const { call, tenantId } = lab.admin
  await until('it is counted', async () => (await call('GET', '/api/v1/usage')).body.items[0]?.outcomes === 2)
  const mine = await call('GET', '/api/v1/usage')
  expect(mine.body).toMatchObject({
    database: null,
    nextCursor: null,
    items: [
      { tenantId, devices: 2, packages: 1, packageBytes: 'firmware v2'.length, tasks: 1, archivedTasks: 0 },
    ],
  })
  expect(mine.body.items[0].objectBytes).toBeGreaterThan(1000)
  expect(mine.body.items[0].auditEntries).toBeGreaterThan(3)
  const root = await makeClient('root', null)
  const all = (await root.call('GET', '/api/v1/usage?limit=200')).body
  expect(all.database.bytes).toBeGreaterThan(10_000)
  expect(all.database.limitBytes).toBe(10_000_000_000)
  expect(all.items).toContainEqual(mine.body.items[0])
  expect(all.items).toContainEqual(
    expect.objectContaining({ tenantId: other.admin.tenantId, devices: 1, tasks: 0 }),
  )
  for (const role of ['viewer', 'operator'] as const) {
    expect((await (await makeClient(role, tenantId)).call('GET', '/api/v1/usage')).status).toBe(403)
  }
})
