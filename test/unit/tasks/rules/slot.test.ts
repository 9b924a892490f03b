import { expect, it } from 'vitest'
import { reason } from '../../../../src/reasons/reason.ts'
import {
  type Contender,
  choosePackage,
  type DueDevice,
  decideSlot,
  isUnsure,
  type Slot,
} from '../../../../src/tasks/rules/slot.ts'
import { taskRank } from '../../../../src/tasks/rules/task.ts'

const me: Contender = {
  taskId: 'me',
  rank: '5',
  productId: 'lamp',
  targetVersion: 'v2',
  packages: [{ id: 'full', sourceVersion: null }],
  newerTargets: new Map(),
  onBusy: 'replace',
}

const slotOf = (more: Partial<Slot>): Slot => ({
  taskId: 'other',
  rank: '3',
  active: false,
  lastNoticeId: 1,
  succeededTaskId: null,
  succeededRank: null,
  doubtVersion: null,
  waitingTaskId: null,
  waitingRank: null,
  waitingVersion: null,
  ...more,
})

const device = (slot: Partial<Slot> | null, more: Partial<DueDevice> = {}): DueDevice => ({
  id: 'd',
  productId: 'lamp',
  enabled: true,
  frozen: false,
  version: 'v1',
  isCertain: true,
  isReported: true,
  chosenPackageId: null,
  slot: slot && slotOf(slot),
  ...more,
})

it('a task claims a free slot and keeps its own', () => {
  for (const slot of [null, { active: false }, { active: true, taskId: 'me', rank: '5' }]) {
    expect(decideSlot(device(slot), me)).toEqual({ type: 'claim' })
  }
})

it('a task is superseded by a newer one that holds the slot, waits for it or succeeded', () => {
  const superseded = { type: 'superseded', by: 'newer' }
  expect(decideSlot(device({ active: true, taskId: 'newer', rank: '9' }), me)).toEqual(superseded)
  expect(decideSlot(device({ succeededTaskId: 'newer', succeededRank: '9' }), me)).toEqual(superseded)
  expect(decideSlot(device({ waitingTaskId: 'newer', waitingRank: '9' }), me)).toEqual(superseded)
  const held = { active: true, waitingTaskId: 'newer', waitingRank: '9' }
  expect(decideSlot(device(held), me)).toEqual(superseded)
})

it('a slot that an older task holds is busy', () => {
  expect(decideSlot(device({ active: true }), me)).toEqual({ type: 'busy', holder: 'other' })
})

it("a task keeps its slot while a newer one waits, until the device reports the newer one's target", () => {
  const mine = {
    active: true,
    taskId: 'me',
    rank: '5',
    waitingTaskId: 'newer',
    waitingRank: '9',
    waitingVersion: 'v3',
  }
  expect(decideSlot(device(mine), me)).toEqual({ type: 'claim' })
  expect(decideSlot(device(mine, { version: 'v3' }), me)).toEqual({ type: 'superseded', by: 'newer' })
  const succeeded = { ...mine, succeededTaskId: 'newer', succeededRank: '9' }
  expect(decideSlot(device(succeeded), me)).toEqual({ type: 'superseded', by: 'newer' })
})

it('nothing is sent to a device that is frozen, disabled, deleted or in another product', () => {
  expect(decideSlot(device(null, { frozen: true }), me)).toEqual({ type: 'frozen' })
  expect(decideSlot(device(null, { enabled: false }), me)).toMatchObject({ type: 'hold' })
  expect(decideSlot(device(null, { productId: null }), me)).toEqual({
    type: 'cancel',
    reason: reason('device_deleted'),
  })
  expect(decideSlot(device(null, { productId: 'desk' }), me)).toMatchObject({ type: 'cancel' })
})

it('a device that already runs the target needs no notice, unless another task is upgrading it', () => {
  expect(decideSlot(device(null, { version: 'v2' }), me)).toEqual({ type: 'alreadyOnTarget' })
  expect(decideSlot(device({ active: true }, { version: 'v2' }), me)).toMatchObject({ type: 'busy' })
})

it('a differential package never goes to a device on another version than its source', () => {
  const diff = { ...me, packages: [{ id: 'diff', sourceVersion: 'v1' }] }
  expect(decideSlot(device(null), diff)).toEqual({ type: 'claim' })
  for (const version of ['v0', null]) {
    expect(decideSlot(device(null, { version }), diff)).toMatchObject({ type: 'hold' })
    const mine = { active: true, taskId: 'me', rank: '5' }
    expect(decideSlot(device(mine, { version }), diff)).toMatchObject({ type: 'hold' })
  }
})

it('a device is unsure only if a notice of another version may have reached it', () => {
  expect(isUnsure(null, 'v2')).toBe(false)
  expect(isUnsure(slotOf({ doubtVersion: 'v2' }), 'v2')).toBe(false)
  expect(isUnsure(slotOf({ doubtVersion: 'v1.5' }), 'v2')).toBe(true)
  expect(isUnsure(slotOf({ doubtVersion: '*' }), 'v2')).toBe(true)
})

it('the later created of two tasks is the newer', () => {
  const rank = (createdAt: number) => taskRank({ id: 'x', createdAt })
  expect(rank(1_000_000_000_000) < rank(1_000_000_000_001)).toBe(true)
  expect(rank(999) < rank(1000)).toBe(true)
})

it('a device whose version is uncertain gets the full package, or waits', () => {
  const uncertain = { isCertain: false }
  const diff = { ...me, packages: [{ id: 'diff', sourceVersion: 'v1' }] }
  expect(decideSlot(device(null, uncertain), diff)).toEqual({ type: 'hold', by: reason('version_uncertain') })
  const both = [
    { id: 'diff', sourceVersion: 'v1' },
    { id: 'full', sourceVersion: null },
  ]
  expect(choosePackage(both, device(null, uncertain))).toMatchObject({ id: 'full' })
  expect(choosePackage(both, device(null))).toMatchObject({ id: 'diff' })
  expect(choosePackage(both, device(null, { chosenPackageId: 'diff', ...uncertain }))).toMatchObject({
    id: 'diff',
  })
  expect(choosePackage([both[1]!], device(null, { chosenPackageId: 'diff' }))).toMatchObject({ id: 'full' })
})

it('a device is on the target, or beyond it, only if its version is certain', () => {
  expect(decideSlot(device(null, { version: 'v2', isCertain: false, isReported: false }), me)).toEqual({
    type: 'claim',
  })
  const newer = { ...me, newerTargets: new Map([['v3', 'newer']]) }
  expect(decideSlot(device(null, { version: 'v3' }), newer)).toEqual({ type: 'superseded', by: 'newer' })
  expect(decideSlot(device(null, { version: 'v3', isCertain: false, isReported: false }), newer)).toEqual({
    type: 'claim',
  })
  const mine = { active: true, taskId: 'me', rank: '5' }
  expect(decideSlot(device(mine, { version: 'v3' }), newer)).toEqual({ type: 'superseded', by: 'newer' })
})
