import { describe, expect, it } from 'vitest'
import { reason } from '../../../../src/reasons/reason.ts'
import { transition } from '../../../../src/tasks/rules/transition.ts'
import {
  newUpgrade,
  type Upgrade,
  type UpgradeEvent,
  type UpgradeRules,
} from '../../../../src/tasks/rules/upgrade.ts'

const T0 = 1_764_000_000_000
const MINUTE = 60_000
const HOUR = 60 * MINUTE

const rules = (more: Partial<UpgradeRules> = {}): UpgradeRules => ({
  targetVersion: 'v2',
  confirm: 'progress',
  mismatchPushes: 3,
  now: T0,
  ...more,
})

const sure = { unsure: false, neverReported: false }
const offered = (noticeId: number, more = {}): UpgradeEvent => ({
  type: 'offered',
  offer: { noticeId, packageIndex: 0, leaseUntil: T0 + MINUTE, linkExpiresAt: T0 + HOUR, online: null },
  ...sure,
  ...more,
})
const sent = (noticeId: number): UpgradeEvent => ({ type: 'sent', noticeId })
const taken = (noticeId: number): UpgradeEvent => ({ type: 'taken', noticeId })
const progress = (step: number, description: string | null = null): UpgradeEvent => ({
  type: 'progress',
  step,
  description,
  viaBridge: true,
})
const version = (reported: string, isHolder = true): UpgradeEvent => ({
  type: 'version',
  version: reported,
  isHolder,
  viaBridge: true,
})
const told = (noticeId = 1): UpgradeEvent[] => [offered(noticeId), sent(noticeId), taken(noticeId)]

/** Applies the events to a new upgrade, or to `from`. */
const evolve = (events: UpgradeEvent[], more: Partial<UpgradeRules> = {}, from: Upgrade = newUpgrade()) =>
  events.reduce((upgrade, event) => transition(upgrade, event, rules(more)), from)

describe('the notice', () => {
  it('a Pending device is Pushed when the broker took its notice', () => {
    expect(evolve([offered(1)]).status).toBe('pending')
    expect(evolve([offered(1), sent(1)]).status).toBe('pending')
    expect(evolve(told())).toMatchObject({ status: 'pushed', pushes: 1, owed: 'no', offer: null })
  })

  it('a device stays Pending, "offline", if no session subscribes to its topic', () => {
    const offline = evolve([offered(1), { type: 'offline', noticeId: 1 }])
    expect(offline).toMatchObject({ status: 'pending', offline: true, owed: 'no', pushes: 0 })
    expect(evolve([{ type: 'subscribed' }], {}, offline)).toMatchObject({ owed: 'due', offline: false })
    expect(evolve([version('v1')], {}, offline)).toMatchObject({ owed: 'due' })
    expect(evolve([{ type: 'asked', viaBridge: true }], {}, offline)).toMatchObject({ owed: 'due' })
  })

  it('a notice is owed again under the same id if its lease ran out or the bridge returned it', () => {
    for (const event of [{ type: 'leaseExpired' }, { type: 'returned', noticeId: 7 }] as const) {
      const again = evolve([offered(7), event])
      expect(again).toMatchObject({ owed: 'due', offer: { noticeId: 7 } })
      expect(evolve([offered(7), sent(7), taken(7)], {}, again)).toMatchObject({
        status: 'pushed',
        pushes: 1,
      })
    }
  })

  it('a notice that was sent before its lease ran out is counted once', () => {
    const again = evolve([offered(7), sent(7), { type: 'leaseExpired' }, offered(7), sent(7), taken(7)])
    expect(again).toMatchObject({ status: 'pushed', pushes: 1 })
  })

  it('a notice counts even if its `taken` comes after the lease ran out', () => {
    expect(evolve([offered(7), { type: 'leaseExpired' }, sent(7), taken(7)])).toMatchObject({
      status: 'pushed',
      owed: 'no',
      offer: null,
    })
  })

  it('a notice handed out over HTTPS makes the device Pushed at once', () => {
    const handedOut = { type: 'handedOut', packageIndex: 0, linkExpiresAt: T0 + HOUR, ...sure } as const
    expect(evolve([handedOut])).toMatchObject({ status: 'pushed', pushes: 1 })
  })

  it('a notice of an earlier attempt changes nothing in the present one', () => {
    const retried = evolve([...told(1), progress(-1), { type: 'retried' }])
    expect(retried).toMatchObject({ status: 'pending', attempt: 2, pushes: 0, step: null, owed: 'due' })
    expect(evolve([sent(1), taken(1), progress(50)], {}, retried)).toEqual(retried)
    expect(evolve([...told(2), progress(50)], {}, retried)).toMatchObject({ status: 'upgrading', step: 50 })
  })
})

describe('progress', () => {
  it('progress from a device that was sent nothing changes nothing', () => {
    for (const step of [0, 50, 100, -1]) expect(evolve([progress(step)])).toEqual(newUpgrade())
    expect(evolve([offered(1), progress(100)]).status).toBe('pending')
  })

  it('progress after `sent` counts even before the PUBACK', () => {
    expect(evolve([offered(1), sent(1), progress(0)])).toMatchObject({
      status: 'upgrading',
      step: 0,
      offer: null,
    })
    expect(evolve([offered(1), sent(1), progress(100)]).status).toBe('success')
  })

  it.each([
    [-1, 'upgrade_failed', 'upgrade failed: why'],
    [-2, 'download_failed', 'download failed: why'],
    [-3, 'verification_failed', 'verification failed: why'],
    [-4, 'write_failed', 'write failed: why'],
  ])('progress %i is a Failure with the meaning of the code', (step, cause, description) => {
    expect(evolve([...told(), progress(step, 'why')])).toMatchObject({
      status: 'failure',
      cause,
      description,
      step,
    })
    expect(evolve([...told(), progress(30), progress(step)])).toMatchObject({ status: 'failure', cause })
  })

  it('a −2 after every link expired gets a fresh notice, at most three times', () => {
    const late = { now: T0 + 2 * HOUR }
    let upgrade = evolve(told())
    for (let push = 1; push <= 3; push++) {
      upgrade = evolve([progress(-2)], late, upgrade)
      expect(upgrade).toMatchObject({ status: 'pushed', owed: 'repush' })
      const fresh = [offered(1 + push), sent(1 + push), taken(1 + push)]
      upgrade = evolve(fresh, late, upgrade)
      expect(upgrade.repushes).toBe(push)
    }
    expect(evolve([progress(-2)], late, upgrade)).toMatchObject({
      status: 'failure',
      cause: 'download_failed',
    })
  })

  it('a −2 about an expired link is no Failure if a fresh notice has just gone out', () => {
    const late = T0 + 2 * HOUR
    const fresh: UpgradeEvent = {
      type: 'offered',
      offer: {
        noticeId: 2,
        packageIndex: 0,
        leaseUntil: late + MINUTE,
        linkExpiresAt: late + HOUR,
        online: null,
      },
      ...sure,
    }
    const back = evolve([{ type: 'subscribed' }, fresh, sent(2), taken(2)], { now: late }, evolve(told()))
    expect(evolve([progress(-2)], { now: late + 1000 }, back)).toMatchObject({
      status: 'pushed',
      owed: 'repush',
    })
    expect(evolve([progress(-2)], { now: late + 2 * MINUTE }, back).status).toBe('failure')
  })

  it('progress 100 leaves the device Upgrading with confirm "version"', () => {
    const byVersion = { confirm: 'version' } as const
    const reached = evolve([...told(), progress(100)], byVersion)
    expect(reached).toMatchObject({ status: 'upgrading', step: 100 })
    expect(evolve([version('v2')], byVersion, reached).status).toBe('success')
    expect(evolve([version('v1')], byVersion, reached)).toMatchObject({
      status: 'failure',
      cause: 'rolled_back',
      rolledBack: true,
    })
  })
})

describe('a version report', () => {
  it('a report of the target version is a Success in every state that is not ended', () => {
    expect(evolve([version('v2')])).toMatchObject({
      status: 'success',
      reason: reason('already_on_target'),
      description: 'already on the target version',
    })
    expect(evolve([...told(), version('v2')]).status).toBe('success')
    expect(evolve([...told(), progress(40), version('v2')]).status).toBe('success')
  })

  it('a report of another version gets the notice again three times; the fourth is a Failure', () => {
    let upgrade = evolve(told(1))
    for (let push = 1; push <= 3; push++) {
      upgrade = evolve([version('v1')], {}, upgrade)
      expect(upgrade).toMatchObject({ status: 'pushed', owed: 'repush', repushes: push - 1 })
      upgrade = evolve([offered(1 + push), sent(1 + push), taken(1 + push)], {}, upgrade)
    }
    expect(evolve([version('v1')], {}, upgrade)).toMatchObject({ status: 'failure', cause: 'wrong_version' })
  })

  it('a report of another version is not counted while a notice is on its way', () => {
    const repeated = evolve([
      ...told(1),
      version('v1'),
      version('v1'),
      version('v1'),
      version('v1'),
      version('v1'),
    ])
    expect(repeated).toMatchObject({ status: 'pushed', owed: 'repush', repushes: 0 })
  })

  it('a re-push that reached no session is not counted', () => {
    const offline = evolve([...told(1), version('v1'), offered(2), { type: 'offline', noticeId: 2 }])
    expect(offline).toMatchObject({ status: 'pushed', repushes: 0, owed: 'no' })
  })

  it('a report of another version leaves a Pending device Pending and is not one of the three', () => {
    const offline = evolve([offered(1), { type: 'offline', noticeId: 1 }, version('v1')])
    expect(offline).toMatchObject({ status: 'pending', owed: 'due' })
    expect(evolve([offered(1), sent(1), taken(1)], {}, offline).repushes).toBe(0)
  })

  it('a report of another version after 100 % marks the Success as rolled back, once', () => {
    const rolledBack = evolve([...told(), progress(100), version('v1')])
    expect(rolledBack).toMatchObject({
      status: 'success',
      rolledBack: true,
      reason: reason('rolled_back', { version: 'v1' }),
      description: 'reported 100 %, runs v1',
    })
    expect(evolve([version('v1')], {}, rolledBack)).toBe(rolledBack)
  })

  it('a report of another version is no roll-back if the target was reported or another task took the slot', () => {
    expect(evolve([...told(), progress(100), version('v2'), version('v3')]).rolledBack).toBe(false)
    expect(evolve([...told(), progress(100), version('v3', false)]).rolledBack).toBe(false)
  })

  it('a report of the target makes a failed device a Success, "late", unless a later upgrade took the slot', () => {
    const timedOut = evolve([...told(), progress(10), { type: 'silent' }])
    expect(timedOut).toMatchObject({
      status: 'failure',
      reason: reason('timed_out'),
      description: 'timed out',
    })
    expect(evolve([version('v2')], {}, timedOut)).toMatchObject({
      status: 'success',
      reason: reason('late'),
      description: 'late',
    })
    expect(evolve([version('v2', false)], {}, timedOut)).toEqual({ ...timedOut, reportedSince: true })
    expect(evolve([...told(), progress(-2), version('v2')])).toMatchObject({
      status: 'success',
      reason: reason('late'),
    })
  })
})

describe('an unsure device', () => {
  const unsure: UpgradeEvent[] = [offered(1, { unsure: true }), sent(1), taken(1)]

  it('an unsure device becomes a Success only by its version report', () => {
    const reached = evolve([...unsure, progress(100)])
    expect(reached).toMatchObject({ status: 'upgrading', step: 100 })
    expect(evolve([version('v2')], {}, reached).status).toBe('success')
  })

  it('an unsure device that reports another version after 100 % gets the notice again and is not a Failure', () => {
    const reached = evolve([...unsure, progress(100), version('v1')], { confirm: 'version' })
    expect(reached).toMatchObject({ status: 'upgrading', owed: 'repush' })
  })

  it('an unsure device that never reported a version succeeds on 100 %, "unverified"', () => {
    const never = [offered(1, { unsure: true, neverReported: true }), sent(1), taken(1), progress(100)]
    expect(evolve(never)).toMatchObject({
      status: 'success',
      reason: reason('unverified'),
      description: 'unverified',
    })
    expect(evolve([...never.slice(0, 3), version('v1'), progress(100)]).status).toBe('upgrading')
  })
})

describe('a device that turns up', () => {
  it('a device that subscribes gets the notice again, within 60 s of the last one only when those are over', () => {
    const pushed = evolve(told())
    const back = evolve([{ type: 'subscribed' }], { now: T0 + 59_000 }, pushed)
    expect(back).toMatchObject({ owed: 'due', heldUntil: T0 + 60_000, heldBy: { code: 'told_just_now' } })
    expect(evolve([progress(10)], { now: T0 + 59_500 }, back)).toMatchObject({ owed: 'no', heldUntil: null })
    expect(evolve([{ type: 'asked', viaBridge: true }], { now: T0 + 59_500 }, back)).toMatchObject({
      owed: 'due',
      heldUntil: null,
    })
    expect(evolve([{ type: 'subscribed' }], { now: T0 + 61_000 }, pushed).owed).toBe('due')
    expect(evolve([{ type: 'asked', viaBridge: true }], { now: T0 + 1000 }, pushed).owed).toBe('due')
  })

  it('an Upgrading device gets the notice again only when it asks', () => {
    const upgrading = evolve([...told(), progress(10)])
    expect(evolve([{ type: 'subscribed' }], { now: T0 + HOUR }, upgrading).owed).toBe('no')
    expect(evolve([{ type: 'asked', viaBridge: true }], {}, upgrading).owed).toBe('asked')
  })
})

describe('what ends a device', () => {
  it('an operator can cancel from every state that is not ended', () => {
    for (const events of [[], told(), [...told(), progress(10)]]) {
      expect(evolve([...events, { type: 'cancelled', reason: reason('device_deleted') }])).toMatchObject({
        status: 'cancelled',
        reason: reason('device_deleted'),
        description: 'device deleted',
      })
    }
  })

  it('a newer task that replaces, and the end of the task, cancel a Pushed device but no Upgrading one', () => {
    const upgrading = evolve([...told(), progress(10)])
    for (const event of [{ type: 'replaced', by: 'x' }, { type: 'endReached' }] as const) {
      expect(evolve([...told(), event]).status).toBe('cancelled')
      expect(evolve([event], {}, upgrading)).toBe(upgrading)
    }
  })

  it('a newer task that already has the device cancels it in every state that is not ended', () => {
    const superseded = { type: 'superseded', by: 'x' } as const
    for (const events of [[], told(), [...told(), progress(10)]]) {
      expect(evolve([...events, superseded])).toMatchObject({
        status: 'cancelled',
        reason: reason('superseded_by', { taskId: 'x' }),
        description: 'superseded by x',
      })
    }
  })
})

describe('an Upgrading device that is owed a re-push and asks while the task is paused', () => {
  it('an Upgrading device that is owed a re-push gets it when it asks in a paused task, and it counts as a re-push', () => {
    const upgrading = evolve([progress(10), version('v1')], {}, evolve(told()))
    expect(upgrading).toMatchObject({ status: 'upgrading', owed: 'repush' })
    const asked = evolve([{ type: 'asked', viaBridge: true }], {}, upgrading)
    expect(asked.owed).toBe('asked')
    expect(evolve([offered(2), sent(2), taken(2)], {}, asked)).toMatchObject({ pushes: 2, repushes: 1 })
  })
})

describe('a re-push that is on its way when the device asks over HTTPS', () => {
  it('a re-push on its way is counted once if the device also gets it over HTTPS', () => {
    const handedOut: UpgradeEvent = { type: 'handedOut', packageIndex: 0, linkExpiresAt: T0 + HOUR, ...sure }
    const onItsWay = evolve([version('v1'), offered(2), sent(2)], {}, evolve(told()))
    expect(onItsWay).toMatchObject({ pushes: 2, repushes: 1 })
    expect(evolve([handedOut], {}, onItsWay)).toMatchObject({ pushes: 3, repushes: 1, offer: null })
  })
})
