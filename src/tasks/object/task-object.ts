import { DurableObject } from 'cloudflare:workers'
import type { Env } from '../../common/env.ts'
import type { Waiter } from '../../hub/waiter.ts'
import { createLinker } from '../../links/linker.ts'
import type { Notice } from '../../protocol/device.ts'
import { writeTaskRow } from '../database/task-row.ts'
import type { SlotPeer } from '../effects/other-tasks.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { askForNotices } from '../notices/answer-requests.ts'
import { handOut } from '../notices/hand-out.ts'
import { freeze } from '../notices/turn.ts'
import { type TaskSpec, taskRank } from '../rules/task.ts'
import { newRun } from '../rules/task-run.ts'
import { deliver, noteNewcomers, type TaskMessage } from '../steps/deliver.ts'
import { type DownloadAnswer, noteDownload, openDownload } from '../steps/download.ts'
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
  yieldSlots,
} from '../steps/operator-calls.ts'
import { type RetryAnswer, retryDevices } from '../steps/retry.ts'
import { nextAlarm, work } from '../steps/work.ts'
import { openTaskJournal, type Sample } from '../storage/task-journal.ts'
import { openTaskQueues } from '../storage/task-queues.ts'
import { type DeviceListQuery, openTaskStorage, type TaskStorage } from '../storage/task-storage.ts'
import {
  type DevicePage,
  type DeviceView,
  devicePage,
  deviceView,
  type TaskView,
  taskView,
} from './task-view.ts'
import { acceptWatcher, createWatchers } from './watchers.ts'

/** How soon the alarm tries again what threw. */
const FAILED_LOOK_AGAIN_MS = 5_000
const IN_CASE_MS = 60_000

/**
 * One upgrade task: the only owner of its devices' states. A thin shell over the steps beside it; losing its
 * memory at any point loses nothing.
 */
export class UpgradeTask extends DurableObject<Env> implements SlotPeer, Waiter {
  #storage: TaskStorage
  #context: TaskContext | undefined
  #watchers = createWatchers()

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env)
    this.#storage = openTaskStorage(ctx.storage)
  }

  // ---- For operators ------------------------------------------------------------------------------------

  /** Makes the task, or finds that it is made. False where one of its packages is not ready. */
  async create(spec: TaskSpec, selection: string[][]): Promise<boolean> {
    if (!this.#storage.hasTask()) {
      this.#storage.insertSelection(selection)
      this.#storage.insertTask(spec, newRun(spec))
    }
    const task = this.#task()
    // Before there is a row of it: cut off after that, the task is looked after all the same.
    await this.ctx.storage.setAlarm(Date.now() + IN_CASE_MS)
    if (!(await writeTaskRow(this.env.DB, task))) {
      await this.ctx.storage.deleteAlarm()
      return false
    }
    task.run.unwritten = 'no'
    await this.#rearm()
    return true
  }

  view(): TaskView {
    return taskView(this.#task(), Date.now())
  }

  devices(query: DeviceListQuery): DevicePage {
    return devicePage(this.#task(), query)
  }

  device(deviceId: string): DeviceView | null {
    return deviceView(this.#task(), deviceId, Date.now())
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
    return this.#answered(cancelTask(this.#task(), Date.now()))
  }

  async nextWave(): Promise<Answer<TaskView>> {
    return this.#answered(nextWave(this.#task(), Date.now()))
  }

  async retry(which: { deviceId: string } | { includeCancelled: boolean }): Promise<Answer<RetryAnswer>> {
    try {
      return await retryDevices(this.#task(), which, Date.now)
    } finally {
      await this.#rearm()
    }
  }

  async cancelDevices(deviceIds: string[], reason: string): Promise<Refusal | null> {
    const refusals = deviceIds.map((deviceId) => cancelDevice(this.#task(), deviceId, reason, Date.now()))
    await this.#rearm()
    return refusals.find((refusal) => refusal !== null) ?? null
  }

  // ---- For who watches ----------------------------------------------------------------------------------

  /** A console's socket: it is told the figures as they move, at most once a second. */
  override async fetch(): Promise<Response> {
    const { 0: client, 1: server } = new WebSocketPair()
    acceptWatcher(this.ctx, server, this.#task())
    return new Response(null, { status: 101, webSocket: client })
  }

  override async webSocketMessage(): Promise<void> {
    // Who watches has nothing to say.
  }

  override async webSocketClose(socket: WebSocket): Promise<void> {
    socket.close(1000, 'closed')
  }

  // ---- For devices --------------------------------------------------------------------------------------

  async deliver(messages: TaskMessage[]): Promise<void> {
    if (!this.#storage.hasTask()) return
    const task = this.#task()
    try {
      this.ctx.storage.transactionSync(() => deliver(task, messages, Date.now()))
    } catch (error) {
      // A part of the batch must not stay: what was written is undone, and so are the counts in memory.
      Object.assign(task.run, this.#storage.readTask()!.run)
      throw error
    }
    await this.#rearm()
  }

  /** Devices that ask over MQTT. Answers those for which a notice is due here, and is or will be sent. */
  async ask(asks: { deviceId: string; key: string }[]): Promise<string[]> {
    if (!this.#storage.hasTask()) return []
    try {
      return await askForNotices(this.#task(), asks, Date.now)
    } finally {
      await this.#rearm()
    }
  }

  /** The due notice for a device that asks over HTTPS; null where none is due here. */
  async handOut(deviceId: string): Promise<Notice | null> {
    if (!this.#storage.hasTask()) return null
    try {
      return await handOut(this.#task(), deviceId, Date.now)
    } finally {
      await this.#rearm()
    }
  }

  async openDownload(deviceId: string, packageIndex: number): Promise<DownloadAnswer> {
    return this.#storage.hasTask() ? openDownload(this.#task(), deviceId, packageIndex) : { state: 'gone' }
  }

  async noteDownload(deviceId: string, packageIndex: number, what: 'began' | 'completed'): Promise<void> {
    if (!this.#storage.hasTask()) return
    noteDownload(this.#task(), deviceId, packageIndex, what, Date.now())
    await this.#rearm()
  }

  // ---- For the catalogue --------------------------------------------------------------------------------

  /** The product is frozen: what is being prepared is not sent. */
  async freeze(): Promise<void> {
    if (!this.#storage.hasTask()) return
    const task = this.#task()
    freeze(task, Date.now())
    this.#storage.writeRun(task.run)
    await this.#rearm()
  }

  async recalled(packageId: string): Promise<void> {
    if (!this.#storage.hasTask()) return
    packageRecalled(this.#task(), packageId)
    await this.#rearm()
  }

  /** These devices changed: a dynamic task may take them in. */
  async newcomers(deviceIds: string[]): Promise<void> {
    if (!this.#storage.hasTask()) return
    noteNewcomers(
      this.#task(),
      deviceIds.filter((deviceId) => !this.#storage.readRow(deviceId)),
    )
    await this.#rearm()
  }

  // ---- For the hub and other tasks ----------------------------------------------------------------------

  /** A bridge has credit, or a product was unfrozen, or a device enabled. */
  async wake(deviceIds: string[] = []): Promise<void> {
    if (!this.#storage.hasTask()) return
    const task = this.#task()
    task.run.blockedUntil = 0
    lookAgain(task, deviceIds, Date.now())
    this.#storage.writeRun(task.run)
    await this.#rearm()
  }

  async slotsFreed(deviceIds: string[]): Promise<void> {
    await this.wake(deviceIds)
  }

  async yieldSlots(deviceIds: string[], by: string | null): Promise<string[]> {
    if (!this.#storage.hasTask()) return deviceIds
    try {
      return await yieldSlots(this.#task(), deviceIds, by, Date.now)
    } finally {
      await this.#rearm()
    }
  }

  async replaceDevices(deviceIds: string[], by: string): Promise<void> {
    if (!this.#storage.hasTask()) return
    replaceDevices(this.#task(), deviceIds, by, Date.now())
    await this.#rearm()
  }

  // ---- The alarm ----------------------------------------------------------------------------------------

  override async alarm(): Promise<void> {
    if (!this.#storage.hasTask()) return
    let notBefore = 0
    try {
      await work(this.#task(), Date.now)
    } catch (error) {
      console.error('task.work_failed', { task: this.#task().spec.id, error: String(error) })
      notBefore = Date.now() + FAILED_LOOK_AGAIN_MS
    } finally {
      const next = nextAlarm(this.#task(), Date.now())
      if (next !== null) await this.ctx.storage.setAlarm(Math.max(next, notBefore))
      this.#watchers.tell(this.ctx, this.#task())
    }
  }

  async #answered(refused: Refusal | null): Promise<Answer<TaskView>> {
    if (refused) return { refused }
    await this.#rearm()
    return { value: this.view() }
  }

  /** The alarm rings at the earliest thing due. Writes nothing where it already does. */
  async #rearm(): Promise<void> {
    this.#watchers.tell(this.ctx, this.#task())
    const next = nextAlarm(this.#task(), Date.now())
    if (next === null) return
    const present = await this.ctx.storage.getAlarm()
    if (present === null || present > next) await this.ctx.storage.setAlarm(next)
  }

  #task(): TaskContext {
    if (!this.#context) {
      const stored = this.#storage.readTask()
      if (!stored) throw new Error('no such task')
      this.#context = {
        env: this.env,
        storage: this.#storage,
        journal: openTaskJournal(this.ctx.storage),
        queues: openTaskQueues(this.ctx.storage),
        ...stored,
        rank: taskRank(stored.spec),
        link: createLinker(this.env),
        freezes: 0,
      }
    }
    return this.#context
  }
}
