import fc from 'fast-check'
import { expect, it } from 'vitest'
import { reason } from '../../../../src/reasons/reason.ts'
import { transition } from '../../../../src/tasks/rules/transition.ts'
import {
  isEnded,
  newUpgrade,
  type Upgrade,
  type UpgradeEvent,
  type UpgradeStatus,
} from '../../../../src/tasks/rules/upgrade.ts'

// Random events in random order, including events that no bridge or operator would send.

const noticeId = fc.integer({ min: 1, max: 4 })
const doubts = { unsure: fc.boolean(), neverReported: fc.boolean() }
const event: fc.Arbitrary<UpgradeEvent> = fc.oneof(
  fc.record({
    type: fc.constant('offered' as const),
    offer: fc.record({
      noticeId,
      packageIndex: fc.constant(0),
      leaseUntil: fc.integer({ min: 0, max: 1000 }),
      linkExpiresAt: fc.integer({ min: 0, max: 1000 }),
      online: fc.constantFrom(true, false, null),
    }),
    ...doubts,
  }),
  fc.record({ type: fc.constant('sent' as const), noticeId }),
  fc.record({ type: fc.constantFrom('taken' as const, 'offline' as const, 'returned' as const), noticeId }),
  fc.record({
    type: fc.constant('handedOut' as const),
    packageIndex: fc.constant(0),
    linkExpiresAt: fc.integer({ min: 0, max: 1000 }),
    ...doubts,
  }),
  fc.record({
    type: fc.constant('progress' as const),
    step: fc.integer({ min: -4, max: 100 }),
    description: fc.constant('said'),
    viaBridge: fc.boolean(),
  }),
  fc.record({
    type: fc.constant('version' as const),
    version: fc.constantFrom('v1', 'v2'),
    isHolder: fc.boolean(),
    viaBridge: fc.boolean(),
  }),
  fc.record({ type: fc.constant('asked' as const), viaBridge: fc.boolean() }),
  fc.record({
    type: fc.constant('held' as const),
    until: fc.nat(1000),
    by: fc.constant(reason('device_disabled')),
    waiting: fc.boolean(),
  }),
  fc.record({ type: fc.constant('cancelled' as const), reason: fc.constant(reason('device_deleted')) }),
  fc.record({ type: fc.constantFrom('replaced' as const, 'superseded' as const), by: fc.constant('x') }),
  fc.constantFrom<UpgradeEvent>(
    { type: 'leaseExpired' },
    { type: 'subscribed' },
    { type: 'connected' },
    { type: 'fetched', download: 'began 0' },
    { type: 'gone' },
    { type: 'retriedItself' },
    { type: 'notRetried' },
    { type: 'lookAgain' },
    { type: 'alreadyOnTarget' },
    { type: 'silent' },
    { type: 'busy' },
    { type: 'retried' },
    { type: 'endReached' },
  ),
)

const run = fc.record({
  events: fc.array(fc.record({ event, wait: fc.nat(100) }), { maxLength: 60 }),
  confirm: fc.constantFrom('progress' as const, 'version' as const),
  mismatchPushes: fc.integer({ min: 0, max: 4 }),
})

/** The state changes of the table in src/protocol/README.md#states, with the events that may cause them. */
const ALLOWED: Record<string, UpgradeEvent['type'][]> = {
  'pending>pushed': ['taken', 'handedOut'],
  'pending>upgrading': ['progress'],
  'pushed>upgrading': ['progress'],
  'pending>success': ['progress', 'version', 'alreadyOnTarget'],
  'pushed>success': ['progress', 'version'],
  'upgrading>success': ['progress', 'version'],
  'pending>failure': ['progress', 'busy'],
  'pushed>failure': ['progress', 'version'],
  'upgrading>failure': ['progress', 'version', 'silent'],
  'failure>success': ['version'],
  'failure>pending': ['retried', 'retriedItself'],
  'cancelled>pending': ['retried'],
  'pending>cancelled': ['cancelled', 'replaced', 'superseded', 'endReached'],
  'pushed>cancelled': ['cancelled', 'replaced', 'superseded', 'endReached'],
  'upgrading>cancelled': ['cancelled', 'superseded'],
}

type RunOf = typeof run extends fc.Arbitrary<infer T> ? T : never

/** Every step of a run: the upgrade before and after it, its event and the rules. */
function* steps({ events, confirm, mismatchPushes }: RunOf) {
  let upgrade: Upgrade = newUpgrade()
  let now = 0
  for (const { event, wait } of events) {
    now += wait
    const rules = { targetVersion: 'v2', confirm, mismatchPushes, now }
    const next = transition(upgrade, event, rules)
    yield { before: upgrade, after: next, event, rules }
    upgrade = next
  }
}
const RUNS = { numRuns: 5000 }

it('a state changes only as the transition table says', () => {
  fc.assert(
    fc.property(run, (events) => {
      for (const { before, after, event } of steps(events)) {
        if (before.status === after.status) continue
        expect(ALLOWED[`${before.status}>${after.status}`], `${before.status}>${after.status}`).toContain(
          event.type,
        )
      }
    }),
    RUNS,
  )
})

it('progress never changes a device that was sent no notice in its attempt', () => {
  fc.assert(
    fc.property(run, (events) => {
      for (const { before, after, event } of steps(events)) {
        if (event.type === 'progress' && before.pushes === 0) expect(after).toBe(before)
        if (after.status === 'pushed' || after.status === 'upgrading') expect(after.pushes).toBeGreaterThan(0)
      }
    }),
    RUNS,
  )
})

it('a device that ended is owed nothing, and re-pushes never exceed the limit', () => {
  fc.assert(
    fc.property(run, (events) => {
      for (const { after, rules } of steps(events)) {
        if (isEnded(after.status)) expect(after).toMatchObject({ owed: 'no', offer: null, heldUntil: null })
        expect(after.repushes).toBeLessThanOrEqual(rules.mismatchPushes)
        expect(after.repushes).toBeLessThanOrEqual(after.pushes)
      }
    }),
    RUNS,
  )
})

it('a record of the bridge that comes twice changes nothing', () => {
  fc.assert(
    fc.property(run, (events) => {
      for (const { after, event, rules } of steps(events)) {
        if (['sent', 'taken', 'offline', 'cancelled', 'endReached'].includes(event.type)) {
          expect(transition(after, event, rules)).toEqual(after)
        }
      }
    }),
    RUNS,
  )
})

it('counts that follow the changes of state equal the states', () => {
  fc.assert(
    fc.property(fc.array(run, { maxLength: 8 }), (devices) => {
      const counts = new Map<UpgradeStatus, number>([['pending', devices.length]])
      const last = devices.map((events) => {
        let status: UpgradeStatus = 'pending'
        for (const { before, after } of steps(events)) {
          counts.set(before.status, (counts.get(before.status) ?? 0) - 1)
          counts.set(after.status, (counts.get(after.status) ?? 0) + 1)
          status = after.status
        }
        return status
      })
      for (const [status, count] of counts) expect(last.filter((one) => one === status)).toHaveLength(count)
    }),
    { numRuns: 500 },
  )
})
