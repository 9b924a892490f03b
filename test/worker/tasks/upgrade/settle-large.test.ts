import { env } from 'cloudflare:workers'
import { expect, it } from 'vitest'
import { progresses } from '../../lab.ts'
import { countsOf, makeRolloutFleet } from '../../rollout-fleet.ts'

it('1,499 devices that fail at once with the longest texts are all written down', async () => {
  const count = 1499
  const fleet = await makeRolloutFleet(count)
  const task = await fleet.upgradeTo('v2')
  const told = await fleet.takeNotices()
  expect(told).toHaveLength(count)
  for (const desc of ['\u{1f525}'.repeat(200), '\u0001'.repeat(200)]) {
    await fleet.all(told, (device) => progresses(device, -1, { desc }))
    await fleet.wait(1000)
    expect((await countsOf(task)).failure).toBe(count)
    const outcomes = await env.DB.prepare(
      "SELECT count(*) AS count FROM outcomes WHERE task_id = ? AND status = 'failure'",
    )
      .bind(task.id)
      .first<{ count: number }>()
    expect(outcomes?.count).toBe(count)
    await task.post('/retry')
    await fleet.wait(1000)
    await fleet.takeNotices()
  }
})
