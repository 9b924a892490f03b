import { runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { expect, it } from 'vitest'
import { taskStub } from '../../../../src/tasks/api/task-stub.ts'
import { type LabDevice, makeLab } from '../../lab.ts'
import { untilIdle } from '../../lab-clock.ts'

// One call looks at most at 50,000 devices, so that its queries stay below what the platform allows in one request.

const OTHERS = 50_600

it('a retry of more devices than one call looks at goes on where the last call stopped, and reaches the last one', async () => {
  const lab = await makeLab()
  const [device] = lab.devices as [LabDevice]
  const task = await lab.upgradeTo('v2')
  await lab.bridge.notice(device)
  await task.post(`/devices/${device.id}/cancel`)
  await untilIdle()
  // Devices that are in no catalogue any more, before the one that can be retried.
  await runInDurableObject(taskStub(env, task.id), (_, { storage }) => {
    storage.sql.exec(
      `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
       INSERT INTO devices (device_id, number, status, updated_at, state, events)
       SELECT printf('dev_0%025d', i), 'n' || i, 'cancelled', 0, '{}', '[]' FROM n`,
      OTHERS,
    )
  })
  const retry = async () => (await task.post('/retry?include=cancelled')).body
  const skipped = (count: number) => [expect.objectContaining({ code: 'device_deleted_or_moved', count })]
  expect(await retry()).toEqual({ retried: 0, skipped: skipped(50_000), more: true })
  expect(await retry()).toEqual({ retried: 1, skipped: skipped(OTHERS - 50_000) })
  expect((await task.device(device)).status).toBe('pending')
  // From the beginning again.
  expect(await retry()).toMatchObject({ retried: 0, more: true })
})
