import { runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { expect, it } from 'vitest'
import { makeLab, progresses } from '../../lab.ts'
import { type Item, sent, taken } from '../../lab-bridge.ts'
import { moveClock, until, untilIdle } from '../../lab-clock.ts'

const DEVICES = 20_000
const BATCH = 500
const CREDIT = 1000
/** At most one page of notices is on its way to the bridge when the task is cancelled. */
const PAGE = 200

interface Outcome {
  device_id: string
  status: string
  description: string | null
}

it('a task of 20,000 devices that is cancelled half-way sends nothing more, and D1 has the outcome of every device', async () => {
  const lab = await makeLab(DEVICES, {}, CREDIT)
  const { bridge } = lab
  const postAll = async (items: Item[]) => {
    for (let at = 0; at < items.length; at += BATCH) await bridge.post(items.slice(at, at + BATCH))
  }
  /** Takes notices until so many have come, and keeps granting credit for more. */
  const takeUpTo = async (notices: number) => {
    let granted = bridge.frames.length
    while (bridge.frames.length < notices) {
      granted += CREDIT
      await until('the credit is used up', () => bridge.frames.length >= Math.min(granted, notices))
      bridge.grant(CREDIT)
    }
  }
  const task = await lab.upgradeTo('v2')
  await takeUpTo(4000)
  const told = bridge.frames.slice(0, 4000)
  await postAll(told.flatMap((frame) => [sent(frame), taken(frame)]))
  const byId = new Map(lab.devices.map((device) => [device.id, device]))
  const step = (index: number) => [100, -3, 50][index % 4]
  await postAll(
    told.flatMap((frame, index) => {
      const said = step(index)
      return said === undefined ? [] : [progresses(byId.get(frame.notice.device)!, said)]
    }),
  )

  await takeUpTo(DEVICES / 2)
  expect((await task.post('/cancel')).body).toMatchObject({ status: 'cancelled' })
  await bridge.flushed()
  const atCancel = bridge.frames.length
  expect(atCancel).toBeLessThan(DEVICES)
  moveClock(10_000)
  await untilIdle()
  await bridge.flushed()
  const afterwards = bridge.frames.length
  expect(afterwards - atCancel).toBeLessThanOrEqual(PAGE)
  moveClock(3_600_000)
  await untilIdle()
  await bridge.flushed()
  expect(bridge.frames.length).toBe(afterwards)

  const { counts } = await task.get()
  expect(counts).toEqual({
    total: DEVICES,
    pending: 0,
    pushed: 0,
    upgrading: 0,
    success: 1000,
    failure: 1000,
    cancelled: 18_000,
  })
  const inObject = await runInDurableObject(env.UPGRADE_TASK.getByName(task.id), (_, { storage }) =>
    storage.sql.exec('SELECT device_id, status, description FROM devices ORDER BY device_id').toArray(),
  )
  const { results } = await env.DB.prepare(
    'SELECT device_id, status, description FROM outcomes WHERE task_id = ? ORDER BY device_id',
  )
    .bind(task.id)
    .all<Outcome>()
  expect(results).toEqual(inObject)
  const { active } = (await env.DB.prepare(
    'SELECT count(*) AS active FROM upgrades WHERE task_id = ? AND active = 1',
  )
    .bind(task.id)
    .first<{ active: number }>())!
  expect(active).toBe(0)
  const row = await env.DB.prepare('SELECT status, counts FROM tasks WHERE id = ?').bind(task.id).first()
  expect({ ...row, counts: JSON.parse(row!.counts as string) }).toEqual({ status: 'cancelled', counts })
})
