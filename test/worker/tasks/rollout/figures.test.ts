import { describe, expect, it } from 'vitest'
import { type LabTask, progresses, reports } from '../../lab.ts'
import { countsOf, makeRolloutFleet, type RolloutFleet } from '../../rollout-fleet.ts'

const SECOND = 1000
const MINUTE = 60 * SECOND

const fails = (step: number, desc: string) => (device: Parameters<typeof progresses>[0]) =>
  progresses(device, step, { desc })

/** The rows of a task's report.csv, each by column. */
async function reportOf(fleet: RolloutFleet, task: LabTask): Promise<Record<string, string>[]> {
  const { body } = await fleet.admin.call('GET', `/api/v1/tasks/${task.id}/report.csv`)
  const [head, ...lines] = (body as string)
    .trim()
    .split('\r\n')
    .map((line) => line.split(','))
  return lines.map((cells) => Object.fromEntries(head!.map((name, at) => [name, cells[at]!])))
}

const tally = (keys: string[]) =>
  Object.fromEntries([...Map.groupBy(keys, (key) => key)].map(([key, list]) => [key, list.length]))

interface Failure {
  cause: string
  description: string
  count: number
}

describe('the failures of a task', () => {
  it('failures are counted by code and by text, in the task and in report.csv', async () => {
    const fleet = await makeRolloutFleet()
    await fleet.all(fleet.devices, (device) => reports(device, 'v1'))
    const policy = { deviceTimeoutMinutes: 30, mismatchPushes: 0 }
    const task = await fleet.upgradeTo('v2', { policy })
    const told = await fleet.takeNotices()
    const groups: [number, number, (device: (typeof told)[number]) => ReturnType<typeof progresses>][] = [
      [0, 120, fails(-1, 'no space left')],
      [120, 200, fails(-1, 'battery low')],
      [200, 250, fails(-2, 'no route')],
      [250, 290, fails(-3, 'bad digest')],
      [290, 320, fails(-4, '')],
      [320, 400, (device) => progresses(device, 50)],
      [400, 460, (device) => reports(device, 'v1')],
      [460, 1000, (device) => progresses(device, 100)],
    ]
    for (const [from, to, say] of groups) await fleet.all(told.slice(from, to), say)
    await fleet.wait(31 * MINUTE)
    const { status, counts, failures } = await task.get()
    expect({ status, success: counts.success, failure: counts.failure }).toEqual({
      status: 'finished',
      success: 540,
      failure: 460,
    })
    expect(failures).toMatchObject([
      {
        code: -1,
        cause: 'upgrade_failed',
        description: 'upgrade failed: no space left',
        because: { code: 'upgrade_failed', params: { said: 'no space left' } },
        count: 120,
      },
      { code: null, cause: 'timed_out', description: 'timed out', count: 80 },
      { code: -1, cause: 'upgrade_failed', description: 'upgrade failed: battery low', count: 80 },
      {
        code: null,
        cause: 'wrong_version',
        count: 60,
        description: 'still reports v1 after 0 more notices',
      },
      { code: -2, cause: 'download_failed', description: 'download failed: no route', count: 50 },
      { code: -3, cause: 'verification_failed', description: 'verification failed: bad digest', count: 40 },
      { code: -4, cause: 'write_failed', description: 'write failed', count: 30 },
    ])
    const lines = await reportOf(fleet, task)
    expect(lines).toHaveLength(1000)
    expect(tally(lines.map(({ status, code, cause }) => `${status} ${code} ${cause}`.trim()))).toEqual({
      success: 540,
      "failure '-1 upgrade_failed": 200,
      "failure '-2 download_failed": 50,
      "failure '-3 verification_failed": 40,
      "failure '-4 write_failed": 30,
      'failure  timed_out': 80,
      'failure  wrong_version': 60,
    })

    // Devices that are retried are no failures any more.
    expect((await task.post('/retry')).body).toEqual({ retried: 460, skipped: [] })
    expect((await task.get()).failures).toEqual([])
  })

  it('of more than 100 different failure texts, those beyond the hundredth are counted together', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2')
    const told = await fleet.takeNotices()
    await fleet.all(told, (device) => progresses(device, -1, { desc: `at address ${told.indexOf(device)}` }))
    const { failures } = await task.get()
    expect(failures).toHaveLength(101)
    expect(failures[0]).toEqual({
      code: -1,
      cause: 'upgrade_failed',
      description: '(other)',
      because: { code: 'other_failures', params: {} },
      count: 900,
    })
    expect(new Set(failures.slice(1).map(({ count }: Failure) => count))).toEqual(new Set([1]))
    await task.post('/retry')
    expect((await task.get()).failures).toEqual([])
  })
})

describe('the progress of a task', () => {
  it('the progress of a task has the counts of each minute in which they changed', async () => {
    const fleet = await makeRolloutFleet()
    const task = await fleet.upgradeTo('v2')
    const told = await fleet.takeNotices()
    await fleet.wait(MINUTE)
    for (let minute = 0; minute < 5; minute++) {
      await fleet.all(told.slice(minute * 100, minute * 100 + 90), (device) => progresses(device, 100))
      await fleet.all(told.slice(minute * 100 + 90, minute * 100 + 100), (device) => progresses(device, -3))
      await fleet.wait(MINUTE + SECOND)
    }
    // While nothing happens, nothing is recorded.
    await fleet.wait(10 * MINUTE)
    await fleet.all(told.slice(500), (device) => progresses(device, 100))
    await fleet.wait(MINUTE + SECOND)
    const { body } = await fleet.admin.call('GET', `/api/v1/tasks/${task.id}/progress`)
    const items: { at: string; counts: Record<string, number> }[] = body.items
    const figures = items.map(({ counts }) => [counts.pushed, counts.success, counts.failure])
    expect(figures.slice(-7)).toEqual([
      [1000, 0, 0],
      [900, 90, 10],
      [800, 180, 20],
      [700, 270, 30],
      [600, 360, 40],
      [500, 450, 50],
      [0, 950, 50],
    ])
    for (const { counts } of items) {
      const { total, ...rest } = counts
      expect(Object.values(rest).reduce((sum, count) => sum + count, 0)).toBe(total)
    }
    const times = items.map(({ at }) => Date.parse(at))
    for (const [index, at] of times.entries()) {
      if (index > 0) expect(at - times[index - 1]!).toBeGreaterThanOrEqual(MINUTE)
    }
    expect(times.at(-1)! - times.at(-2)!).toBeGreaterThanOrEqual(10 * MINUTE)
    expect(await countsOf(task)).toEqual({ total: 1000, success: 950, failure: 50 })
  })
})
