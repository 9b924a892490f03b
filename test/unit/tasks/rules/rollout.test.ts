import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { NOTICE_PAGE_SIZE, planRollout, spend } from '../../../../src/tasks/rules/rollout.ts'
import { type TaskPolicy, taskPolicy } from '../../../../src/tasks/rules/task.ts'
import { newRun, type TaskRun } from '../../../../src/tasks/rules/task-run.ts'

const SECOND = 1000
const MINUTE = 60 * SECOND
const T0 = Date.parse('2026-11-23T12:00:00Z')

interface Rules {
  startAt: number
  endAt: number | null
  policy: TaskPolicy
}

const rules = (policy: Record<string, unknown> = {}, endAt: number | null = null): Rules => ({
  startAt: T0,
  endAt,
  policy: taskPolicy.parse(policy),
})

/** A task that runs, with its first wave open. */
function running({ policy }: Rules, more: Partial<TaskRun> = {}): TaskRun {
  const run = newRun({ startAt: T0, createdAt: T0, policy } as never)
  run.cuts ??= run.waves.map(() => 0)
  for (const wave of run.waves) wave.devices = 100
  run.waves[0]!.openedAt = T0
  return Object.assign(run, more)
}

describe('a task', () => {
  it('sends between its start and its end, while it runs', () => {
    const spec = rules({}, T0 + MINUTE)
    const of = (status: TaskRun['status'], now: number) => planRollout(spec, running(spec, { status }), now)
    expect(of('scheduled', T0 - 1)).toMatchObject({ open: false, asks: false, lookAgainAt: T0 })
    expect(of('running', T0)).toMatchObject({ open: true, lookAgainAt: T0 + MINUTE, closedBecause: null })
    expect(of('running', T0 + MINUTE)).toMatchObject({
      open: false,
      closedBecause: "the task's end was reached",
    })
    for (const status of ['finished', 'cancelled'] as const)
      expect(of(status, T0)).toMatchObject({ open: false, asks: false })
  })

  it('lets devices that have begun ask also while it is paused or past its end', () => {
    const spec = rules({}, T0 + MINUTE)
    const paused = running(spec, { status: 'paused' })
    expect(planRollout(spec, paused, T0)).toMatchObject({ open: false, asks: true, lookAgainAt: T0 + MINUTE })
    expect(planRollout(spec, running(spec), T0 + MINUTE)).toMatchObject({ open: false, asks: true })
  })
})

describe('a window', () => {
  it('is closed outside its hours and looks again when it opens', () => {
    const spec = rules({ window: { from: '01:00', to: '05:00', timeZone: 'Europe/Berlin' } })
    const plan = planRollout(spec, running(spec), T0)
    expect(plan).toMatchObject({ open: false, asks: true, lookAgainAt: Date.parse('2026-11-24T00:00:00Z') })
    expect(plan.closedBecause).toBe('outside its window until 01:00 Europe/Berlin')
    expect(planRollout(spec, running(spec), Date.parse('2026-11-24T00:00:00Z'))).toMatchObject({ open: true })
  })
})

describe('a rate', () => {
  /** Sends whatever the plan allows, looking when it says, for so long; answers when each notice went. */
  function sendAll(spec: Rules, from: number, until: number, run = running(spec)): number[] {
    const sent: number[] = []
    for (let now = from; now < until; ) {
      const { quota, quotaAt } = planRollout(spec, run, now)
      for (let notice = 0; notice < quota; notice++) sent.push(now)
      run.spentUpTo = spend(spec, run, quota, now)
      now = quota === 0 ? quotaAt! : now
    }
    return sent
  }

  /** `sent` in the order of time. */
  function mostIn(sent: number[], span: number): number {
    let most = 0
    let first = 0
    for (const [index, at] of sent.entries()) {
      while (sent[first]! <= at - span) first++
      most = Math.max(most, index - first + 1)
    }
    return most
  }

  it('gives no minute more than it says, wherever the minute begins, and nearly as many', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 3000 }),
        fc.integer({ min: 0, max: 5000 }),
        (ratePerMinute, idle) => {
          const spec = rules({ ratePerMinute })
          const sent = sendAll(spec, T0 + idle, T0 + idle + 3 * MINUTE)
          expect(mostIn(sent, MINUTE)).toBeLessThanOrEqual(ratePerMinute)
          expect(sent.length).toBeGreaterThanOrEqual(Math.floor((3 * 60 * ratePerMinute) / 61) - 1)
        },
      ),
      { numRuns: 50 },
    )
  })

  it('spreads the notices evenly over the minute, with no burst at its start', () => {
    const sent = sendAll(rules({ ratePerMinute: 600 }), T0, T0 + 2 * MINUTE)
    expect(sent.filter((at) => at < T0 + SECOND).length).toBe(10)
    expect(mostIn(sent, SECOND)).toBe(10)
    expect(mostIn(sent, 10 * SECOND)).toBeLessThanOrEqual(102)
  })

  it('saves up nothing of what was not used', () => {
    const spec = rules({ ratePerMinute: 600 })
    expect(planRollout(spec, running(spec), T0 + 60 * MINUTE).quota).toBe(2)
  })

  it('is no rule where there is none: a page at a time', () => {
    const spec = rules()
    expect(planRollout(spec, running(spec), T0)).toMatchObject({ quota: NOTICE_PAGE_SIZE, quotaAt: null })
  })
})

describe('the halt rule', () => {
  const spec = rules({ haltOn: { failurePercent: 10, minFinished: 20 } })
  const plan = (settled: number, failed: number) =>
    planRollout(spec, running(spec, { halt: { epoch: 0, settled, failed } }), T0)

  it('waits until enough have settled', () => {
    expect(plan(19, 19).halt).toBeNull()
    expect(plan(20, 20).halt).not.toBeNull()
  })

  it('stops the task over its limit, not at it, and says the figures', () => {
    expect(plan(20, 2)).toMatchObject({ halt: null, open: true })
    const over = plan(20, 3)
    expect(over).toMatchObject({ open: false, asks: true })
    expect(over.halt).toBe('halted: 3 of 20 settled devices failed (15 %, the limit is 10 %)')
  })
})

describe('waves', () => {
  const spec = rules({
    waves: [{ percent: 10, successPercent: 95, soakMinutes: 30 }, { percent: 50 }, { percent: 100 }],
  })
  /** The first wave: all had their turn, and this became of them. */
  const first = (wave: Partial<TaskRun['waves'][number]>, more: Partial<TaskRun> = {}) => {
    const run = running(spec, more)
    Object.assign(run.waves[0]!, wave)
    return run
  }

  it('opens the first at once', () => {
    const run = running(spec)
    run.waves[0]!.openedAt = null
    expect(planRollout(spec, run, T0)).toMatchObject({ opensWave: true })
  })

  it('opens none before the devices are spread over them', () => {
    const run = running(spec, { cuts: null })
    run.waves[0]!.openedAt = null
    expect(planRollout(spec, run, T0)).toMatchObject({ opensWave: false })
  })

  it('opens the next once enough of the reached succeeded, and that held for the soak', () => {
    const good = { reached: 100, succeeded: 95 }
    expect(planRollout(spec, first(good), T0)).toMatchObject({
      ...{ opensWave: false, goodSince: T0, lookAgainAt: T0 + 30 * MINUTE },
    })
    const held = first({ ...good, goodSince: T0 })
    expect(planRollout(spec, held, T0 + 30 * MINUTE - 1)).toMatchObject({ opensWave: false, goodSince: T0 })
    expect(planRollout(spec, held, T0 + 30 * MINUTE)).toMatchObject({ opensWave: true })
  })

  it('begins the soak anew where the wave turns bad meanwhile', () => {
    const bad = first({ reached: 100, succeeded: 94, failed: 6, goodSince: T0 })
    expect(planRollout(spec, bad, T0 + 60 * MINUTE)).toMatchObject({ opensWave: false, goodSince: null })
  })

  it.each([
    ['below its share', { reached: 100, succeeded: 94 }],
    ['where nobody was reached', { reached: 0, succeeded: 0 }],
  ])('opens none %s', (_, wave) => {
    const run = first({ ...wave, goodSince: T0 - 60 * MINUTE })
    expect(planRollout(spec, run, T0)).toMatchObject({ opensWave: false, goodSince: null })
  })

  it('waits for notices that are owed or on their way: at first with the soak, later only with the opening', () => {
    const waits = { reached: 10, succeeded: 10, underWay: 1 }
    expect(planRollout(spec, first(waits), T0)).toMatchObject({ opensWave: false, goodSince: null })
    const soaked = first({ ...waits, goodSince: T0 })
    expect(planRollout(spec, soaked, T0 + 60 * MINUTE)).toMatchObject({
      ...{ opensWave: false, goodSince: T0, lookAgainAt: null },
    })
    soaked.waves[0]!.underWay = 0
    expect(planRollout(spec, soaked, T0 + 60 * MINUTE)).toMatchObject({ opensWave: true })
  })

  it('opens none while the task is paused or outside its window', () => {
    const good = { reached: 100, succeeded: 100, goodSince: T0 - 60 * MINUTE }
    expect(planRollout(spec, first(good, { status: 'paused' }), T0)).toMatchObject({ opensWave: false })
  })
})
