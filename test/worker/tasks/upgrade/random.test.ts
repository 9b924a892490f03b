import { evictDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { expect, it } from 'vitest'
import type { NoticeFrame } from '../../../../src/protocol/bridge.ts'
import { taskStub } from '../../../../src/tasks/api/task-stub.ts'
import {
  type Lab,
  type LabDevice,
  type LabTask,
  makeLab,
  outcomeOf,
  over,
  progresses,
  reports,
  requests,
  slotOf,
  subscribes,
} from '../../lab.ts'
import { type Item, sent, taken } from '../../lab-bridge.ts'
import { moveClock } from '../../lab-clock.ts'

// In each round operators, devices, the bridge and the clock do random things, several at a time. After each round the
// invariants below must hold.

const ROUNDS = 25
const DEVICES = 4

/** Pseudo-random numbers from 0 to 1 that are the same for the same seed (mulberry32). */
function makeRandom(seed: number) {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

async function play(seed: number) {
  const random = makeRandom(seed)
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!
  const lab = await makeLab(DEVICES)
  const tasks: LabTask[] = []
  const log: string[] = []
  let versions = 1

  async function newTask() {
    const onBusy = pick(['replace', 'replace', 'wait', 'fail'])
    const confirm = pick(['progress', 'version'])
    tasks.push(
      await lab.upgradeTo(`v${++versions}`, { policy: { onBusy, confirm, deviceTimeoutMinutes: 5 } }),
    )
  }

  /** A random result of a notice; the bridge loses some of them. */
  const settle = (frame: NoticeFrame): Item[] =>
    pick([
      [sent(frame), taken(frame)],
      [sent(frame), taken(frame)],
      [sent(frame), taken(frame, 'offline')],
      [taken(frame, 'offline')],
      [taken(frame, 'returned')],
      [sent(frame)],
      [],
    ])
  const device = () => pick(lab.devices)
  const said = (): Item =>
    pick([
      () => reports(device(), `v${1 + Math.floor(random() * versions)}`),
      () => progresses(device(), pick([0, 10, 60, 100, 100])),
      () => progresses(device(), pick([-1, -2, -3])),
      () => subscribes(device()),
      () => requests(device(), 'r'),
    ])()

  const actions: Record<string, () => Promise<unknown>> = {
    settle: () => lab.bridge.post(lab.bridge.frames.splice(0).flatMap(settle)),
    settleToo: () => lab.bridge.post(lab.bridge.frames.splice(0).flatMap(settle)),
    say: () => lab.bridge.post([said(), said(), said()]),
    sayMore: () => lab.bridge.post([said(), said()]),
    ask: () => over(device())('GET', '/device/v1/upgrade'),
    retry: () => pick(tasks).post(pick(['/retry', '/retry?include=cancelled'])),
    retryOne: () => pick(tasks).post(`/devices/${device().id}/retry`),
    cancelOne: () => pick(tasks).post(`/devices/${device().id}/cancel`),
    pause: () => pick(tasks).post('/pause'),
    resume: () => Promise.all(tasks.map((task) => task.post('/resume'))),
    evict: () => evictDurableObject(taskStub(env, pick(tasks).id)).catch(() => {}),
  }
  await newTask()
  for (let round = 1; round <= ROUNDS; round++) {
    if (round % 6 === 0 && tasks.length < 4) await newTask()
    if (round % 9 === 0) await pick(tasks).post('/cancel').then(newTask)
    const chosen = Array.from({ length: 4 }, () => pick(Object.keys(actions)))
    log.push(chosen.join(' '))
    const answers = await Promise.all(chosen.map((action) => actions[action]!()))
    for (const answer of answers.flat()) expect((answer as { status?: unknown })?.status).not.toBe(500)
    if (random() < 0.3) await lab.bridge.idleFor(pick([61_000, 400_000]))
    await lab.unexpected()
    for (const device of lab.devices)
      await check(lab, device, tasks, `seed ${seed}, round ${round}: ${log.join(' | ')}`)
    await checkCounts(tasks, `seed ${seed}, round ${round}: ${log.join(' | ')}`)
  }
}

/** The slot, the device in its tasks and the outcomes in D1 must agree (src/protocol/README.md#states). */
async function check(lab: Lab, device: LabDevice, tasks: LabTask[], when: string) {
  const slot = await slotOf(device)
  const inTasks = await Promise.all(tasks.map(async (task) => ({ task, ...(await task.device(device)) })))
  const underWay = inTasks.filter(({ status }) => status === 'pushed' || status === 'upgrading')
  expect(underWay.length, `one active upgrade at most; ${when}`).toBeLessThanOrEqual(1)
  for (const { task } of underWay) expect(slot, when).toMatchObject({ task_id: task.id, active: 1 })
  if (slot?.active === 1) {
    const holder = inTasks.find(({ task }) => task.id === slot.task_id)
    expect(['pending', 'pushed', 'upgrading'], `a slot is freed at the end; ${when}`).toContain(
      holder?.status,
    )
  }
  for (const { task, status, attempt, description } of inTasks) {
    if (status === undefined || ['pending', 'pushed', 'upgrading'].includes(status)) continue
    expect(await outcomeOf(task, device), when).toMatchObject({ status, attempt, description })
  }
  expect(lab.devices).toContain(device)
}

async function checkCounts(tasks: LabTask[], when: string) {
  for (const task of tasks) {
    const { counts, status } = await task.get()
    const devices = await taskStub(env, task.id).devices({ after: '', limit: 100 })
    const found = Object.groupBy(devices.items, (item) => item.status)
    for (const [state, count] of Object.entries(counts)) {
      const expected = state === 'total' ? devices.items.length : (found[state as 'pending']?.length ?? 0)
      expect(count, `${state}; ${when}`).toBe(expected)
    }
    const open = counts.pending + counts.pushed + counts.upgrading
    if (status === 'finished' || status === 'cancelled') expect(open, when).toBe(0)
    else expect(open, `an open task has something to do; ${when}`).toBeGreaterThan(0)
  }
}

it.each([1, 3, 4])(
  'slots, outcomes and counts agree after whatever devices, operators and the bridge do (seed %i)',
  async (seed) => {
    moveClock(1)
    await play(seed)
  },
  60_000,
)
