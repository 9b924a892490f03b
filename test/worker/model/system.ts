import { evictDurableObject, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { TypeID } from 'typeid-js'
import { vi } from 'vitest'
import { newId } from '../../../src/common/ids.ts'
import { hubStub } from '../../../src/hub/hub.ts'
import { BridgeHub } from '../../../src/hub/hub-object.ts'
import { resolveTask } from '../../../src/tasks/api/create-task.ts'
import { taskStub } from '../../../src/tasks/api/task-stub.ts'
import { selectionPages } from '../../../src/tasks/database/selection.ts'
import type { UpgradeTask } from '../../../src/tasks/object/task-object.ts'
import { taskPolicy } from '../../../src/tasks/rules/task.ts'
import type { TaskRun } from '../../../src/tasks/rules/task-run.ts'
import type { Upgrade } from '../../../src/tasks/rules/upgrade.ts'
import { LAST_PLACE, placeOf } from '../../../src/tasks/rules/waves.ts'
import type { TaskMessage } from '../../../src/tasks/steps/deliver.ts'
import { openTaskStorage, type TaskStorage } from '../../../src/tasks/storage/task-storage.ts'
import { type Lab, makeLab } from '../lab.ts'

// The real task in its object, with the real hub and D1. Only the steps move the clock, which is years ahead, so that
// no alarm rings by itself.

const TEN_YEARS_MS = 10 * 365 * 86_400_000
const MODULE = 'default'

export interface Fleet {
  lab: Lab
  packageId: string
  hub: string
  clock: { now: number }
  /** The notices that the hub was handed since the last call. */
  takeNotices: () => { device: string; id: number }[]
  setAway: (away: boolean) => void
}

export async function makeFleet(): Promise<Fleet> {
  const lab = await makeLab(1)
  const packageId = await lab.addPackage('v2')
  const clock = { now: Date.now() + TEN_YEARS_MS }
  vi.spyOn(Date, 'now').mockImplementation(() => clock.now)
  const notices: { device: string; id: number }[] = []
  let away = false
  const { offer, prepare } = BridgeHub.prototype
  vi.spyOn(BridgeHub.prototype, 'offer').mockImplementation(function (
    this: BridgeHub,
    frames,
    returnAddress,
  ) {
    const taken = offer.call(this, frames, returnAddress)
    for (const { notice } of frames.slice(0, taken))
      notices.push({ device: notice.device, id: Number(notice.id) })
    return taken
  })
  vi.spyOn(BridgeHub.prototype, 'prepare').mockImplementation(function (
    this: BridgeHub,
    want,
    above,
    address,
  ) {
    const prepared = prepare.call(this, want, above, address)
    return away ? { ...prepared, credit: 0 } : prepared
  })
  return {
    lab,
    packageId,
    clock,
    hub: `${lab.admin.tenantId}/default`,
    takeNotices: () => notices.splice(0),
    setAway: (is) => {
      away = is
    },
  }
}

export interface Seen {
  run: TaskRun
  devices: Map<string, Upgrade>
  alarm: number | null
}

/** In the task's object. */
interface Inside {
  task: UpgradeTask
  storage: DurableObjectStorage
  stored: TaskStorage
}

export type System = Awaited<ReturnType<typeof makeSystem>>

let idNumber = 0

/** Ids in the order of their places in the task, so that a scenario goes the same way each time. */
function orderedIds(taskId: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => {
    for (;;) {
      const bytes = new Uint8Array(16)
      new DataView(bytes.buffer).setUint32(0, ++idNumber)
      const id = TypeID.fromUUIDBytes('dev', bytes).toString()
      if (Math.floor((placeOf(taskId, id) / (LAST_PLACE + 1)) * count) === index) return id
    }
  })
}

/** A new task with devices of its own. */
export async function makeSystem(
  fleet: Fleet,
  policy: Record<string, unknown>,
  deviceCount: number,
  endAt: number | null,
) {
  const { lab, hub, clock } = fleet
  const { tenantId } = lab.admin
  fleet.setAway(false)
  await env.DB.prepare('UPDATE products SET frozen_at = NULL WHERE id = ?').bind(lab.productId).run()
  const taskId = newId('tsk')
  const ids = orderedIds(taskId, deviceCount)
  await env.DB.prepare(
    `INSERT INTO devices (id, tenant_id, product_id, number, access_token, tags, enabled, created_at)
     SELECT value, ?2, ?3, value, value, '[]', 1, ?4 FROM json_each(?1)`,
  )
    .bind(JSON.stringify(ids), tenantId, lab.productId, clock.now)
    .run()
  const { spec } = await resolveTask(env, {
    id: taskId,
    tenantId,
    packageIds: [fleet.packageId],
    name: 'model',
    description: null,
    startAt: null,
    endAt,
    devices: { ids },
    policy: taskPolicy.parse(policy),
  })
  const stub = taskStub(env, taskId)
  await stub.create(spec, selectionPages(ids))
  let keyNumber = 0
  lab.bridge.grant(1000)

  /** The task as it is stored, not as the object has it in memory. */
  async function look({ storage, stored }: Inside): Promise<Seen> {
    const { run } = stored.readTask()!
    const rows = stored.readRowsOf(ids).map(({ deviceId, upgrade }) => [deviceId, upgrade] as const)
    return { run, devices: new Map(rows), alarm: await storage.getAlarm() }
  }

  let inside: Inside | undefined
  /** Does all of `work` in one visit to the object: a visit costs more than what is done there. */
  const visit = <T>(work: (inside: Inside) => Promise<T>): Promise<T> =>
    inside
      ? work(inside)
      : runInDurableObject(stub, async (task, { storage }) => {
          inside = { task, storage, stored: openTaskStorage(storage) }
          try {
            return await work(inside)
          } finally {
            inside = undefined
          }
        })

  return {
    taskId,
    ids,
    visit,
    /** Copied, as it is on the way to an object. */
    deliver: (messages: TaskMessage[]) => visit(({ task }) => task.deliver(structuredClone(messages))),
    nextKey: () => `k${++keyNumber}`,
    evict: () => evictDurableObject(stub),
    see: () => visit(look),
    /** Rings the alarm until it is no longer due. */
    ring: () =>
      visit(async (inside) => {
        const { task, storage } = inside
        for (let rings = 0; rings < 20; rings++) {
          const alarm = await storage.getAlarm()
          if (alarm === null || alarm > clock.now) return look(inside)
          await storage.deleteAlarm()
          await task.alarm()
        }
        throw new Error('the alarm is still due after 20 rings')
      }),
    ringEarly: () => visit(({ task }) => task.alarm()),
    /** Tells the hub that the bridge has handed over everything up to now. */
    handOver: () => hubStub(env, hub).batchReceived(clock.now, undefined, {}),
    setFrozen: (at: number | null) =>
      env.DB.prepare('UPDATE products SET frozen_at = ? WHERE id = ?').bind(at, lab.productId).run(),
    setOnline: (device: string, online: boolean) =>
      env.DB.prepare('UPDATE devices SET online = ? WHERE id = ?').bind(Number(online), device).run(),
    /** What the Worker writes of a version report: the version is certain then. */
    setVersion: (device: string, version: string) =>
      env.DB.batch([
        env.DB.prepare(
          `INSERT INTO device_modules (device_id, module, version, reported_at) VALUES (?1, ?2, ?3, ?4)
           ON CONFLICT DO UPDATE SET version = excluded.version`,
        ).bind(device, MODULE, version, clock.now),
        env.DB.prepare(
          `UPDATE upgrades SET is_unknown = NULL, assumed_version = NULL WHERE device_id = ?1 AND module = ?2
             AND (is_unknown OR assumed_version IS NOT NULL)`,
        ).bind(device, MODULE),
      ]),
    /** The outcomes, active slots, status and counts that D1 has of the task. */
    seeDatabase: async () => {
      const [outcomes, slots, tasks] = await env.DB.batch([
        env.DB.prepare('SELECT device_id, status, attempt FROM outcomes WHERE task_id = ?').bind(taskId),
        env.DB.prepare('SELECT device_id FROM upgrades WHERE task_id = ? AND active = 1').bind(taskId),
        env.DB.prepare('SELECT status, counts FROM tasks WHERE id = ?').bind(taskId),
      ])
      const task = tasks!.results[0] as { status: string; counts: string }
      return {
        outcomes: outcomes!.results as { device_id: string; status: string; attempt: number }[],
        active: new Set((slots!.results as { device_id: string }[]).map(({ device_id }) => device_id)),
        status: task.status,
        counts: JSON.parse(task.counts),
      }
    },
  }
}
