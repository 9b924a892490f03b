import { expect, it } from 'vitest'
import {
  type Contender,
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
  packages: [{ sourceVersion: null }],
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
  slot: slot && slotOf(slot),
  ...more,
})

it('claims a slot that is free, and keeps its own', () => {
  for (const slot of [null, { active: false }, { active: true, taskId: 'me', rank: '5' }]) {
    expect(decideSlot(device(slot), me)).toEqual({ type: 'claim' })
  }
})

it('stands back for a newer task that holds, waits or succeeded', () => {
  const superseded = { type: 'superseded', by: 'newer' }
  expect(decideSlot(device({ active: true, taskId: 'newer', rank: '9' }), me)).toEqual(superseded)
  expect(decideSlot(device({ succeededTaskId: 'newer', succeededRank: '9' }), me)).toEqual(superseded)
  expect(decideSlot(device({ waitingTaskId: 'newer', waitingRank: '9' }), me)).toEqual(superseded)
  const held = { active: true, waitingTaskId: 'newer', waitingRank: '9' }
  expect(decideSlot(device(held), me)).toEqual(superseded)
})

it('meets the older task that holds the slot', () => {
  expect(decideSlot(device({ active: true }), me)).toEqual({ type: 'busy', holder: 'other' })
})

it('keeps its slot from a newer task that waits, until the device reports what that one is for', () => {
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

it('sends nothing to a device that is frozen, disabled, gone or elsewhere', () => {
  expect(decideSlot(device(null, { frozen: true }), me)).toEqual({ type: 'frozen' })
  expect(decideSlot(device(null, { enabled: false }), me)).toMatchObject({ type: 'hold' })
  expect(decideSlot(device(null, { productId: null }), me)).toEqual({
    type: 'cancel',
    reason: 'device deleted',
  })
  expect(decideSlot(device(null, { productId: 'desk' }), me)).toMatchObject({ type: 'cancel' })
})

it('needs no notice for a device that already runs the target, unless another task is upgrading it', () => {
  expect(decideSlot(device(null, { version: 'v2' }), me)).toEqual({ type: 'alreadyOnTarget' })
  expect(decideSlot(device({ active: true }, { version: 'v2' }), me)).toMatchObject({ type: 'busy' })
})

it('never sends a diff to a device on another version than its source', () => {
  const diff = { ...me, packages: [{ sourceVersion: 'v1' }] }
  expect(decideSlot(device(null), diff)).toEqual({ type: 'claim' })
  for (const version of ['v0', null]) {
    expect(decideSlot(device(null, { version }), diff)).toMatchObject({ type: 'hold' })
    const mine = { active: true, taskId: 'me', rank: '5' }
    expect(decideSlot(device(mine, { version }), diff)).toMatchObject({ type: 'hold' })
  }
})

it('is unsure only about another version', () => {
  expect(isUnsure(null, 'v2')).toBe(false)
  expect(isUnsure(slotOf({ doubtVersion: 'v2' }), 'v2')).toBe(false)
  expect(isUnsure(slotOf({ doubtVersion: 'v1.5' }), 'v2')).toBe(true)
  expect(isUnsure(slotOf({ doubtVersion: '*' }), 'v2')).toBe(true)
})

it('ranks tasks by their start, then by their making', () => {
  const rank = (startAt: number, createdAt: number) => taskRank({ id: 'x', startAt, createdAt })
  expect(rank(1_000_000_000_000, 9) < rank(1_000_000_000_001, 1)).toBe(true)
  expect(rank(1, 1) < rank(1, 2)).toBe(true)
  expect(rank(999, 1) < rank(1000, 1)).toBe(true)
})
