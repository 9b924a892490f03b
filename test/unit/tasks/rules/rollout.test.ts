import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { reason } from '../../../../src/reasons/reason.ts'
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

/** A running task whose first wave is open. */
function running({ policy }: Rules, more: Partial<TaskRun> = {}): TaskRun {
  const run = newRun({ startAt: T0, createdAt: T0, policy } as never)
  run.cuts ??= run.waves.map(() => 0)
  for (const wave of run.waves) wave.devices = 100
  run.waves[0]!.openedAt = T0
  return Object.assign(run, more)
}

describe('a task', () => {
  it('a task sends notices between its start and its end while it runs', () => {
    const spec = rules({}, T0 + MINUTE)
    const of = (status: TaskRun['status'], now: number) => planRollout(spec, running(spec, { status }), now)
    expect(of('scheduled', T0 - 1)).toMatchObject({ open: false, asks: false, lookAgainAt: T0 })
    expect(of('running', T0)).toMatchObject({ open: true, lookAgainAt: T0 + MINUTE, closedBecause: null })
    expect(of('running', T0 + MINUTE)).toMatchObject({
      open: false,
      closedBecause: reason('end_reached'),
    })
    for (const status of ['finished', 'cancelled'] as const)
      expect(of(status, T0)).toMatchObject({ open: false, asks: false })
  })

  it('devices that have begun may ask also while the task is paused or past its end', () => {
    const spec = rules({}, T0 + MINUTE)
    const paused = running(spec, { status: 'paused' })
    expect(planRollout(spec, paused, T0)).toMatchObject({ open: false, asks: true, lookAgainAt: T0 + MINUTE })
    expect(planRollout(spec, running(spec), T0 + MINUTE)).toMatchObject({ open: false, asks: true })
  })
})

describe('a window', () => {
  it('a window is closed outside its hours, and the task looks again when it opens', () => {
    const spec = rules({ window: { from: '01:00', to: '05:00', timeZone: 'Europe/Berlin' } })
    const plan = planRollout(spec, running(spec), T0)
    expect(plan).toMatchObject({ open: false, asks: true, lookAgainAt: Date.parse('2026-11-24T00:00:00Z') })
    expect(plan.closedBecause).toEqual(reason('outside_window', { time: '01:00', timeZone: 'Europe/Berlin' }))
    expect(planRollout(spec, running(spec), Date.parse('2026-11-24T00:00:00Z'))).toMatchObject({ open: true })
  })
})

describe('a rate', () => {
  /** Sends all that the plan allows, at the times it names, until `until`. Returns the time of each notice. */
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

  /** The most notices in any span of this length; `sent` is in order of time. */
  function mostIn(sent: number[], span: number): number {
    let most = 0
    let first = 0
    for (const [index, at] of sent.entries()) {
      while (sent[first]! <= at - span) first++
      most = Math.max(most, index - first + 1)
    }
    return most
  }

  it('no minute has more notices than the rate, wherever the minute begins, and nearly as many go out', () => {
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

  it('the rate spreads notices evenly over the minute, without a burst at its start', () => {
    const sent = sendAll(rules({ ratePerMinute: 600 }), T0, T0 + 2 * MINUTE)
    expect(sent.filter((at) => at < T0 + SECOND).length).toBe(10)
    expect(mostIn(sent, SECOND)).toBe(10)
    expect(mostIn(sent, 10 * SECOND)).toBeLessThanOrEqual(102)
  })

  it('unused rate is not saved up', () => {
    const spec = rules({ ratePerMinute: 600 })
    expect(planRollout(spec, running(spec), T0 + 60 * MINUTE).quota).toBe(2)
  })

  it('without a rate a full page goes out at once', () => {
    const spec = rules()
    expect(planRollout(spec, running(spec), T0)).toMatchObject({ quota: NOTICE_PAGE_SIZE, quotaAt: null })
  })
})

describe('the halt rule', () => {
  const spec = rules({ haltOn: { failurePercent: 10, minFinished: 20 } })
  const plan = (settled: number, failed: number) =>
    planRollout(spec, running(spec, { halt: { epoch: 0, settled, failed } }), T0)

  it('the halt rule waits until enough devices have settled', () => {
    expect(plan(19, 19).halt).toBeNull()
    expect(plan(20, 20).halt).not.toBeNull()
  })

  it('the halt rule stops the task above its limit, not at it, and gives the figures', () => {
    expect(plan(20, 2)).toMatchObject({ halt: null, open: true })
    const over = plan(20, 3)
    expect(over).toMatchObject({ open: false, asks: true })
    expect(over.halt).toEqual(reason('halted', { failed: 3, settled: 20, percent: 15, limitPercent: 10 }))
  })
})

describe('waves', () => {
  const spec = rules({
    waves: [{ percent: 10, successPercent: 95, soakMinutes: 30 }, { percent: 50 }, { percent: 100 }],
  })
  /** A running task whose first wave has these figures. */
  const first = (wave: Partial<TaskRun['waves'][number]>, more: Partial<TaskRun> = {}) => {
    const run = running(spec, more)
    Object.assign(run.waves[0]!, wave)
    return run
  }

  it('the first wave opens at once', () => {
    const run = running(spec)
    run.waves[0]!.openedAt = null
    expect(planRollout(spec, run, T0)).toMatchObject({ opensWave: true })
  })

  it('no wave opens before the devices are spread over the waves', () => {
    const run = running(spec, { cuts: null })
    run.waves[0]!.openedAt = null
    expect(planRollout(spec, run, T0)).toMatchObject({ opensWave: false })
  })

  it('the next wave opens when enough reached devices have succeeded for the length of the soak', () => {
    const good = { reached: 100, succeeded: 95 }
    expect(planRollout(spec, first(good), T0)).toMatchObject({
      opensWave: false,
      goodSince: T0,
      lookAgainAt: T0 + 30 * MINUTE,
    })
    const held = first({ ...good, goodSince: T0 })
    expect(planRollout(spec, held, T0 + 30 * MINUTE - 1)).toMatchObject({ opensWave: false, goodSince: T0 })
    expect(planRollout(spec, held, T0 + 30 * MINUTE)).toMatchObject({ opensWave: true })
  })

  it('the soak begins anew if the wave falls below its share', () => {
    const bad = first({ reached: 100, succeeded: 94, failed: 6, goodSince: T0 })
    expect(planRollout(spec, bad, T0 + 60 * MINUTE)).toMatchObject({ opensWave: false, goodSince: null })
  })

  it.each([
    ['while the open one is below its share', { reached: 100, succeeded: 94 }],
    ['while no device of the open one was reached', { reached: 0, succeeded: 0 }],
  ])('no wave opens %s', (_, wave) => {
    const run = first({ ...wave, goodSince: T0 - 60 * MINUTE })
    expect(planRollout(spec, run, T0)).toMatchObject({ opensWave: false, goodSince: null })
  })

  it('notices that are owed or on their way delay the soak; once it has begun they delay only the opening', () => {
    const waits = { reached: 10, succeeded: 10, underWay: 1 }
    expect(planRollout(spec, first(waits), T0)).toMatchObject({ opensWave: false, goodSince: null })
    const soaked = first({ ...waits, goodSince: T0 })
    expect(planRollout(spec, soaked, T0 + 60 * MINUTE)).toMatchObject({
      opensWave: false,
      goodSince: T0,
      lookAgainAt: null,
    })
    soaked.waves[0]!.underWay = 0
    expect(planRollout(spec, soaked, T0 + 60 * MINUTE)).toMatchObject({ opensWave: true })
  })

  it('no wave opens while the task is paused', () => {
    const good = { reached: 100, succeeded: 100, goodSince: T0 - 60 * MINUTE }
    expect(planRollout(spec, first(good, { status: 'paused' }), T0)).toMatchObject({ opensWave: false })
  })
})
