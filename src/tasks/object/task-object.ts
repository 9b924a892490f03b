import { DurableObject } from 'cloudflare:workers'
import type { Env } from '../../common/env.ts'
import { TASK_IS_GONE } from '../../common/errors.ts'
import { errorFields, logError } from '../../common/log.ts'
import { notOpened } from '../../common/platform-faults.ts'
import { steady } from '../../db/steady.ts'
import type { Waiter } from '../../hub/waiter.ts'
import { createLinker } from '../../links/linker.ts'
import type { Notice } from '../../protocol/device.ts'
import { type ReasonCode, toReason } from '../../reasons/reason.ts'
import { writeTaskRow } from '../database/task-row.ts'
import type { SlotPeer } from '../effects/other-tasks.ts'
import { recountIfOld } from '../effects/recount-waves.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { answerRequests } from '../notices/answer-requests.ts'
import { handOut } from '../notices/hand-out.ts'
import { freeze, unblock } from '../notices/turn.ts'
import { withStop } from '../rules/stops.ts'
import { type TaskSpec, taskRank } from '../rules/task.ts'
import { newRun } from '../rules/task-run.ts'
import { deliver, noteNewcomers, type TaskMessage } from '../steps/deliver.ts'
import { type DownloadAnswer, noteDownload, openDownload } from '../steps/download.ts'
import { leave, whyNotLeave } from '../steps/leave.ts'
import {
  type Answer,
  cancelDevice,
  cancelTask,
  lookAgain,
  nextWave,
  packageRecalled,
  patchTask,
  pauseTask,
  type Refusal,
  replaceDevices,
  resumeTask,
  type TaskChange,
  whyUnsigned,
  yieldSlots,
} from '../steps/operator-calls.ts'
import { type RetryAnswer, retryDevices } from '../steps/retry.ts'
import { nextAlarm, work } from '../steps/work.ts'
import { openTaskJournal, type Sample } from '../storage/task-journal.ts'
import { openTaskQueues } from '../storage/task-queues.ts'
import {
  type DeviceListQuery,
  findTaskStorage,
  openTaskStorage,
  type TaskStorage,
} from '../storage/task-storage.ts'
import { leavePages } from './leave-object.ts'
import {
  type DevicePage,
  type DeviceView,
  devicePage,
  deviceView,
  type TaskView,
  taskView,
} from './task-view.ts'
import { acceptWatcher, createWatchers } from './watchers.ts'

/** How soon the alarm tries again after an error, or if a call is still under way in a task that goes. */
const RETRY_AFTER_ERROR_MS = 5_000
const IN_CASE_MS = 60_000

/**
 * One upgrade task: the only owner of its devices' states. A thin shell over the steps in the rooms beside it; losing
 * its memory at any point loses nothing.
 */
export class UpgradeTask extends DurableObject<Env> implements SlotPeer, Waiter {
  #opened: TaskStorage | undefined
  #context: TaskContext | undefined
  #watchers = createWatchers()
  /** Calls that wait for something outside. */
  #underWay = 0

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, steady(env))
  }

  // ---- For operators ------------------------------------------------------------------------------------

  /** Makes the task, or finds that it is made. Returns false if one of its packages is not ready, or it was deleted. */
  async create(spec: TaskSpec, selection: string[][]): Promise<boolean> {
    const storage = this.#storage ?? openTaskStorage(this.ctx.storage)
    this.#opened = storage
    if (!storage.hasTask()) {
      storage.insertSelection(selection)
      storage.insertTask(spec, newRun(spec))
    }
    const task = this.#task()
    // Before its row exists: if the object is cut off after that, the task is looked after all the same.
    await this.ctx.storage.setAlarm(Date.now() + IN_CASE_MS)
    if (!(await writeTaskRow(this.env.DB, task))) {
      await this.#vanish()
      return false
    }
    task.run.unwritten = 'no'
    await this.#rearm()
    return true
  }

  /**
   * Ends the object, with all that it holds, in its alarm; once the task was deleted or archived nothing changes in it any
   * more. Refused unless the task has ended.
   */
  async leave(to: 'deleted' | 'archived'): Promise<Refusal | null> {
    if (!this.#storage?.hasTask()) return null
    const task = this.#open()
    const refused = task.run.leaving === null ? whyNotLeave(task) : null
    if (refused) return refused
    leave(task, to)
    await this.#rearm()
    return null
  }

  view(): TaskView {
    return taskView(this.#task())
  }

  devices(query: DeviceListQuery): DevicePage {
    return devicePage(this.#task(), query)
  }

  device(deviceId: string): DeviceView | null {
    return deviceView(this.#task(), deviceId)
  }

  /** The counts over time, the oldest first. */
  progress(): Sample[] {
    return this.#task().journal.readSamples()
  }

  async patch(change: TaskChange): Promise<TaskView> {
    patchTask(this.#task(), change)
    await this.#rearm()
    return this.view()
  }

  async pause(): Promise<Answer<TaskView>> {
    return this.#answered(pauseTask(this.#task()))
  }

  async resume(): Promise<Answer<TaskView>> {
    return this.#answered(resumeTask(this.#task()))
  }

  async cancel(): Promise<Answer<TaskView>> {
    return this.#answered(cancelTask(this.#task()))
  }

  async nextWave(): Promise<Answer<TaskView>> {
    return this.#answered((await whyUnsigned(this.#task())) ?? nextWave(this.#task()))
  }

  async retry(which: { deviceId: string } | { includeCancelled: boolean }): Promise<Answer<RetryAnswer>> {
    const task = this.#task()
    try {
      return await this.#counted(() => retryDevices(task, which))
    } finally {
      await this.#rearm()
    }
  }

  /** `why` is the code of a reason; a Worker of an earlier release sends a sentence. */
  async cancelDevices(deviceIds: string[], why: ReasonCode): Promise<Refusal | null> {
    const because = toReason(why)
    return this.#call(null, (task) => {
      const refusals = deviceIds.map((deviceId) => cancelDevice(task, deviceId, because))
      return refusals.find((refusal) => refusal !== null) ?? null
    })
  }

  // ---- For the console ----------------------------------------------------------------------------------

  /** A console's socket: it is told the figures as they move, at most once a second. */
  override async fetch(request: Request): Promise<Response> {
    const { 0: client, 1: server } = new WebSocketPair()
    acceptWatcher(this.ctx, server, request, this.#task())
    return new Response(null, { status: 101, webSocket: client })
  }

  override async webSocketMessage(): Promise<void> {
    // A watcher has nothing to say.
  }

  override async webSocketClose(socket: WebSocket): Promise<void> {
    socket.close(1000, 'closed')
  }

  // ---- For devices --------------------------------------------------------------------------------------

  async deliver(messages: TaskMessage[]): Promise<void> {
    await this.#call(undefined, (task) => {
      try {
        this.ctx.storage.transactionSync(() => deliver(task, messages))
      } catch (error) {
        // No part of the batch may stay: what was written is undone, and so are the counts in memory.
        Object.assign(task.run, task.storage.readTask()!.run)
        throw error
      }
    })
  }

  /** Devices ask over MQTT. Returns those for which a notice is due here, and is or will be sent. */
  async ask(requests: { deviceId: string; key: string }[]): Promise<string[]> {
    return this.#call([], (task) => answerRequests(task, requests))
  }

  /** The due notice for a device that asks over HTTPS; null if none is due here. */
  async handOut(deviceId: string): Promise<Notice | null> {
    return this.#call<Notice | null>(null, (task) => handOut(task, deviceId))
  }

  async openDownload(deviceId: string, packageIndex: number): Promise<DownloadAnswer> {
    if (!this.#stays()) return { state: 'gone' }
    return this.#counted(() => openDownload(this.#task(), deviceId, packageIndex))
  }

  async noteDownload(
    deviceId: string,
    packageIndex: number,
    what: 'began' | 'completed' | 'missing',
  ): Promise<void> {
    await this.#call(undefined, (task) => noteDownload(task, deviceId, packageIndex, what))
  }

  // ---- For the catalogue --------------------------------------------------------------------------------

  /** The product is frozen: a notice that is being prepared is not sent. */
  async freeze(): Promise<void> {
    await this.#call(undefined, (task) => {
      freeze(task)
      task.save()
    })
  }

  async unfrozen(): Promise<void> {
    await this.#call(undefined, (task) => {
      task.run.frozen = false
      unblock(task)
      task.save()
    })
  }

  async recalled(packageId: string): Promise<void> {
    await this.#call(undefined, (task) => packageRecalled(task, packageId))
  }

  /** These devices changed: a dynamic task may take them in. */
  async newcomers(deviceIds: string[]): Promise<void> {
    await this.#call(undefined, (task) =>
      noteNewcomers(
        task,
        deviceIds.filter((deviceId) => task.storage.readRow(deviceId)?.upgrade.left !== false),
      ),
    )
  }

  // ---- For the hub and other tasks ----------------------------------------------------------------------

  /** A bridge has credit, or these devices were enabled; an earlier release says so too when the product was unfrozen. */
  async wake(deviceIds: string[] = []): Promise<void> {
    await this.#lookAgain(deviceIds, 'enabled')
  }

  async slotsFreed(deviceIds: string[]): Promise<void> {
    await this.#lookAgain(deviceIds, 'slot_freed')
  }

  async yieldSlots(deviceIds: string[], by: string | null): Promise<string[]> {
    return this.#call(deviceIds, (task) => yieldSlots(task, deviceIds, by))
  }

  async replaceDevices(deviceIds: string[], by: string): Promise<void> {
    await this.#call(undefined, (task) => replaceDevices(task, deviceIds, by))
  }

  // ---- The alarm ----------------------------------------------------------------------------------------

  override async alarm(): Promise<void> {
    let next: number | null
    try {
      if (!this.#storage?.hasTask()) return
      next = await this.#work()
      if (this.#opened) this.#watchers.tell(this.ctx, this.#open())
    } catch (error) {
      // The platform gives up an alarm that fails again and again; a task that cannot even be read is not given up.
      logError('task.unreadable', { task: this.ctx.id.name, ...errorFields(error) })
      next = Date.now() + RETRY_AFTER_ERROR_MS
    }
    if (next !== null) await this.ctx.storage.setAlarm(next)
  }

  /** Returns when the alarm is to ring next, in ms since 1970; null for never. */
  async #work(): Promise<number | null> {
    const task = this.#open()
    let notBefore = 0
    try {
      if (task.run.leaving === null) await work(task)
      else if (await leavePages(task)) {
        if (this.#underWay === 0) {
          await this.#vanish()
          return null
        }
        notBefore = Date.now() + RETRY_AFTER_ERROR_MS
      }
    } catch (error) {
      logError('task.work_failed', { task: task.spec.id, ...errorFields(error) })
      notBefore = Date.now() + RETRY_AFTER_ERROR_MS
    }
    if (!this.#opened) return null
    const next = nextAlarm(task)
    return next === null ? null : Math.max(next, notBefore)
  }

  /** Deletes all that the object holds, its alarm too: the platform then forgets that it ever was. */
  async #vanish(): Promise<void> {
    await this.ctx.storage.deleteAlarm()
    await this.ctx.storage.deleteAll()
    this.#opened = undefined
    this.#context = undefined
    for (const socket of this.ctx.getWebSockets()) socket.close(1000, 'gone')
  }

  // ---- The shell ----------------------------------------------------------------------------------------

  /** A call to the task, and the alarm for what it left to do; `missing` if the task was never made, or goes. */
  async #call<T>(missing: T, call: (task: TaskContext) => T | Promise<T>): Promise<T> {
    if (!this.#stays()) return missing
    const task = this.#task()
    try {
      return await this.#counted(() => call(task))
    } finally {
      await this.#rearm()
    }
  }

  /** The object's storage stays until the call has ended. */
  async #counted<T>(call: () => T | Promise<T>): Promise<T> {
    this.#underWay++
    try {
      return await call()
    } finally {
      this.#underWay--
    }
  }

  #stays(): boolean {
    return this.#storage?.hasTask() === true && this.#open().run.leaving === null
  }

  async #lookAgain(deviceIds: string[], because: 'slot_freed' | 'enabled'): Promise<void> {
    await this.#call(undefined, (task) => {
      unblock(task)
      if (deviceIds.length === 0) Object.assign(task.run, { creditlessSince: null, unconfirmedSince: null })
      lookAgain(task, deviceIds, because)
      task.save()
    })
  }

  async #answered(refused: Refusal | null): Promise<Answer<TaskView>> {
    if (refused) return { refused }
    await this.#rearm()
    return { value: this.view() }
  }

  /** The alarm rings at the earliest thing due. Writes nothing if it already does. */
  async #rearm(): Promise<void> {
    if (!this.#storage) return
    const task = this.#open()
    this.#watchers.tell(this.ctx, task)
    const next = nextAlarm(task)
    if (next === null) return
    const present = await this.ctx.storage.getAlarm()
    if (present === null || present > next) await this.ctx.storage.setAlarm(next)
  }

  /**
   * Undefined if it holds no task: none was made here, or it was deleted. Opened by the first call that needs it: if the
   * constructor did, an error in it would look like a bug to every caller, and the platform would give up the alarm after
   * some tries.
   */
  get #storage(): TaskStorage | undefined {
    try {
      this.#opened ??= findTaskStorage(this.ctx.storage)
      return this.#opened
    } catch (error) {
      throw notOpened(error)
    }
  }

  /** The task, for whoever asks about it: a deleted one is gone at once. */
  #task(): TaskContext {
    const task = this.#open()
    if (task.run.leaving?.to === 'deleted') throw new Error(TASK_IS_GONE)
    return task
  }

  #open(): TaskContext {
    if (!this.#context) {
      const storage = this.#storage
      const stored = storage?.readTask()
      if (!storage || !stored) throw new Error(TASK_IS_GONE)
      const { spec, run } = stored
      const context: TaskContext = {
        env: this.env,
        storage,
        journal: openTaskJournal(this.ctx.storage),
        queues: openTaskQueues(this.ctx.storage),
        spec,
        run,
        rank: taskRank(spec),
        link: createLinker(this.env),
        freezes: 0,
        outdated: new Set(),
        signatures: null,
        held: null,
        behind: null,
        joinNotBefore: 0,
        now: standingClock(),
        save: () => {
          run.stops = withStop(run, context.now())
          storage.writeRun(run)
        },
      }
      recountIfOld(context)
      this.#context = context
    }
    return this.#context
  }
}

/**
 * A clock that stands while code runs, and goes on with the next `await`, as the platform's does: what happens together has
 * one time, and so one timer.
 */
function standingClock(): () => number {
  let at: number | null = null
  return () => {
    if (at === null) {
      at = Date.now()
      queueMicrotask(() => {
        at = null
      })
    }
    return at
  }
}
