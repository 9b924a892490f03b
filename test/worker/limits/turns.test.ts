import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { expect, it } from 'vitest'
import { makeLab } from '../lab.ts'
import { stopClock, untilIdle } from '../lab-clock.ts'

const EVENTS = 2_500

it('an alarm of a task that has much to do ends after some turns, and rings again at once for the rest', async () => {
  stopClock()
  const lab = await makeLab(1)
  const task = await lab.upgradeTo('v2')
  await untilIdle()
  const stub = env.UPGRADE_TASK.getByName(task.id)
  // Each turn takes 100 of them.
  await runInDurableObject(stub, (_, { storage }) => {
    storage.sql.exec(
      `INSERT INTO events (number, event) WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n LIMIT ?)
       SELECT i, json_object('id', 'evt_' || i, 'type', 'task.started', 'at', 0, 'data', json_object()) FROM n`,
      EVENTS,
    )
    return storage.setAlarm(Date.now())
  })
  const leftAfterAlarm = async () => {
    await runDurableObjectAlarm(stub)
    return runInDurableObject(stub, async (_, { storage }) => ({
      events: storage.sql.exec('SELECT count(*) AS count FROM events').one().count,
      isDue: ((await storage.getAlarm()) ?? Number.POSITIVE_INFINITY) <= Date.now(),
    }))
  }
  const first = await leftAfterAlarm()
  expect(first.events).toBeGreaterThan(0)
  expect(first.events).toBeLessThan(EVENTS)
  expect(first.isDue).toBe(true)
  expect((await leftAfterAlarm()).events).toBe(0)
})
