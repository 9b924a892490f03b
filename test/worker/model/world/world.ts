import { runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { Buffer } from 'node:buffer'
import { vi } from 'vitest'
import { receiveBatch } from '../../../../src/bridges/receive-batch.ts'
import { newId } from '../../../../src/common/ids.ts'
import { BridgeHub } from '../../../../src/hub/hub-object.ts'
import type { NoticeFrame } from '../../../../src/protocol/bridge.ts'
import type { Notice } from '../../../../src/protocol/device.ts'
import { taskStub } from '../../../../src/tasks/api/task-stub.ts'
import type { UpgradeTask } from '../../../../src/tasks/object/task-object.ts'
import type { TaskRun } from '../../../../src/tasks/rules/task-run.ts'
import type { DeviceRow } from '../../../../src/tasks/storage/device-row.ts'
import { openTaskStorage, type TaskStorage } from '../../../../src/tasks/storage/task-storage.ts'
import { caller } from '../../api.ts'
import { type Lab, makeLab } from '../../lab.ts'
import type { Item } from '../../lab-bridge.ts'
import type { Scenario, TaskPlan } from './steps.ts'

// Real tasks in their objects, with the real hub, D1 and routes, and devices that are played: what each of them runs is
// known here, whatever it says. Only the steps move the clock, which is years ahead, so that no alarm rings by itself.

const AHEAD_MS = 10 * 365 * 86_400_000
const LEAST_MS = 45_000
const MAX_RINGS = 60

export interface PlayedDevice {
  id: string
  token: string
  product: string
  /** What it runs. */
  runs: string
  /** What it ran before its last flash, until it reports. */
  before: string | null
  isOnline: boolean
  /** Has the broker ever told whether it is connected? */
  isPresenceKnown: boolean
  isHttps: boolean
  isEnabled: boolean
  isDeleted: boolean
  /** The notice that it heard last. */
  heard: Notice['params'] | null
  /** It last reported this version, in this product, and no notice was made for it since. */
  certain: string | null
  /** A notice was announced, and its fate is unknown: it may still come. */
  isAwaiting: boolean
  /** Since its last report it was told so, by task and package: the package of an attempt stays until the device reports. */
  toldSince: Set<string>
  /** By task: when it was first told, and whether it may have been there. */
  told: Map<string, { tick: number; wasThere: boolean }>
  /** By task: when it last said 100 %. */
  at100: Map<string, { tick: number; at: number }>
  /** When it last showed that it is there, otherwise than by a 100 %. */
  lastSign: number
}

export interface PlayedTask {
  id: string
  product: string
  version: string
  /** The later created has the higher one. */
  number: number
  plan: TaskPlan
  timeoutMs: number
  /** The wave that was open when last looked at; −1 before the first. */
  open: number
  openedByOperator: boolean
}

export interface SeenTask {
  task: PlayedTask
  run: TaskRun
  rows: DeviceRow[]
}

/** What all scenarios share: the lab, its clock, and what the hub is handed. */
export interface Stage {
  lab: Lab
  hub: string
  clock: { now: number }
  frames: NoticeFrame[]
  /** Called for each notice as the hub takes it. */
  onOffer: (frame: NoticeFrame) => void
  isAway: boolean
}

export async function makeStage(): Promise<Stage> {
  const lab = await makeLab(0)
  const stage: Stage = {
    lab,
    hub: `${lab.admin.tenantId}/default`,
    clock: { now: Date.now() + AHEAD_MS },
    frames: [],
    onOffer: () => {},
    isAway: false,
  }
  vi.spyOn(Date, 'now').mockImplementation(() => stage.clock.now)
  const { offer, prepare } = BridgeHub.prototype
  vi.spyOn(BridgeHub.prototype, 'offer').mockImplementation(function (this: BridgeHub, frames, address) {
    const taken = offer.call(this, frames, address)
    for (const frame of frames.slice(0, taken)) {
      stage.frames.push(frame)
      stage.onOffer(frame)
    }
    return taken
  })
  vi.spyOn(BridgeHub.prototype, 'prepare').mockImplementation(function (
    this: BridgeHub,
    want,
    above,
    address,
  ) {
    const prepared = prepare.call(this, want, above, address)
    return stage.isAway ? { ...prepared, credit: 0 } : prepared
  })
  // The bridge is always up to date: outages are for the other model.
  vi.spyOn(BridgeHub.prototype, 'handedOver').mockImplementation(() => ({
    upTo: stage.clock.now,
    steadySince: 0,
  }))
  return stage
}

/** The packages of a product: full ones, and diffs by their source. Each has a size of its own, by which it is known. */
const PACKAGES = [
  { version: 'v1', source: '', size: 101 },
  { version: 'v2', source: '', size: 102 },
  { version: 'v3', source: '', size: 103 },
  { version: 'v2', source: 'v1', size: 112 },
  { version: 'v3', source: 'v1', size: 113 },
  { version: 'v3', source: 'v2', size: 123 },
] as const

/** In the bucket, for the packages of all scenarios. */
const fileOf = (size: number) => `world/${size}`

export const sourceOf = (size: number) => PACKAGES.find((pkg) => pkg.size === size)!.source

let number = 0

export class World {
  devices: PlayedDevice[] = []
  tasks: PlayedTask[] = []
  products: string[] = []
  packageIds = new Map<string, string>()
  /** Orders what happens at the same time of the clock. */
  tick = 0
  /** When the next alarm rings, as far as the last look showed. */
  nextAlarm = Number.POSITIVE_INFINITY
  isFrozen = false

  stage: Stage
  setting: Omit<Scenario, 'steps' | 'first'>

  constructor(stage: Stage, setting: World['setting']) {
    this.stage = stage
    this.setting = setting
  }

  get now() {
    return this.stage.clock.now
  }

  // ---- The catalogue ------------------------------------------------------------------------------------

  async open(): Promise<void> {
    const { admin } = this.stage.lab
    const { downloads, versions } = this.setting
    this.products = [newId('prd'), newId('prd')]
    const statements: D1PreparedStatement[] = []
    for (const product of this.products) {
      statements.push(
        env.DB.prepare(
          'INSERT INTO products (id, tenant_id, name, bridge, downloads, created_at) VALUES (?, ?, ?, ?, ?, ?)',
        ).bind(product, admin.tenantId, product, 'default', downloads, this.now),
      )
      for (const { version, source, size } of PACKAGES) {
        const id = newId('pkg')
        this.packageIds.set(`${product} ${version} ${source}`, id)
        statements.push(
          env.DB.prepare(
            `INSERT INTO packages (id, tenant_id, product_id, name, module, version, kind, source_version, sign_method,
               state, size, sign, storage_key, created_at)
             VALUES (?, ?, ?, 'p', 'default', ?, ?, ?, 'SHA256', 'ready', ?, ?, ?, ?)`,
          ).bind(
            id,
            admin.tenantId,
            product,
            version,
            source === '' ? 'full' : 'diff',
            source,
            size,
            '0'.repeat(64),
            fileOf(size),
            this.now,
          ),
        )
      }
    }
    await env.DB.batch(statements)
    for (const { size } of PACKAGES) {
      if (!(await env.PACKAGES.head(fileOf(size)))) await env.PACKAGES.put(fileOf(size), new Uint8Array(size))
    }
    for (const version of versions) await this.addDevice(version)
  }

  async addDevice(version: string | null): Promise<void> {
    const { httpsEvery } = this.setting
    const index = this.devices.length
    const token = `w${++number}`
    const { lab } = this.stage
    const { body } = await lab.admin.call('POST', '/api/v1/devices', {
      productId: this.products[0],
      number: token,
      accessToken: token,
    })
    const device: PlayedDevice = {
      id: body.id,
      token,
      product: this.products[0]!,
      runs: version ?? 'v1',
      before: null,
      isOnline: false,
      isPresenceKnown: false,
      isHttps: httpsEvery > 0 && index % httpsEvery === 0,
      isEnabled: true,
      isDeleted: false,
      heard: null,
      certain: null,
      isAwaiting: false,
      toldSince: new Set(),
      told: new Map(),
      at100: new Map(),
      lastSign: 0,
    }
    this.devices.push(device)
    if (version !== null) await this.report(device)
  }

  async createTask(plan: TaskPlan): Promise<void> {
    const { lab, clock } = this.stage
    clock.now += 1000
    const product = this.products[0]!
    const packages = PACKAGES.filter(
      ({ version, source }) =>
        version === plan.version &&
        (plan.packages === 'both' || (plan.packages === 'full') === (source === '')),
    )
    const ids = this.devices.filter((d) => d.product === product && !d.isDeleted).map(({ id }) => id)
    const some = ids.filter((_, index) => index % 2 === 0)
    if (plan.devices === 'some' && some.length === 0) return
    const answer = await lab.admin.call('POST', '/api/v1/tasks', {
      packageIds: packages.map(({ version, source }) =>
        this.packageIds.get(`${product} ${version} ${source}`),
      ),
      name: 'world',
      devices: plan.devices === 'all' ? 'all' : { ids: some },
      policy: plan.policy,
      ...(plan.startsIn !== null && { startAt: new Date(clock.now + plan.startsIn * 1000).toISOString() }),
    })
    if (answer.status === 422) return
    if (answer.status !== 201) throw new Error(`the task was not made: ${JSON.stringify(answer.body)}`)
    this.tasks.push({
      id: answer.body.id,
      product,
      version: plan.version,
      number: this.tasks.length,
      plan,
      timeoutMs: Number(plan.policy.deviceTimeoutMinutes) * 60_000,
      open: -1,
      openedByOperator: false,
    })
  }

  // ---- Devices ------------------------------------------------------------------------------------------

  sign(device: PlayedDevice): void {
    device.lastSign = ++this.tick
  }

  async post(items: Item[]): Promise<void> {
    const { hub } = this.stage
    const numbered = items.map((item) => ({ id: `x${++number}`, ...item }))
    const { results } = await receiveBatch(env, hub, { upTo: this.now, items: numbered }, this.now)
    const again = results.find(({ status }) => status === 'retry')
    if (again) throw new Error('a message was to be sent again')
  }

  async says(
    device: PlayedDevice,
    topic: 'inform' | 'progress' | 'request',
    message: unknown,
  ): Promise<void> {
    if (device.isDeleted) return
    if (device.isHttps) {
      if (topic === 'request') return this.poll(device)
      await this.https(device, 'POST', `/device/v1/${topic}`, message)
    } else {
      const payload = Buffer.from(JSON.stringify(message)).toString('base64')
      await this.post([{ kind: 'message', username: device.token, topic: `ota/device/${topic}`, payload }])
    }
  }

  /** These devices ask over MQTT. */
  async ask(devices: PlayedDevice[]): Promise<void> {
    for (const device of devices) if (device.isEnabled) this.sign(device)
    const payload = Buffer.from('{"id":"7","params":{}}').toString('base64')
    const topic = 'ota/device/request'
    await this.post(devices.map(({ token: username }) => ({ kind: 'message', username, topic, payload })))
  }

  /** Each device has an address of its own: requests of one address are limited. */
  https = async (device: PlayedDevice, method: string, path: string, body?: unknown) => {
    const index = Number(device.token.slice(1))
    const address = `10.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}`
    const answer = await caller(device.token)(method, path, body, { 'cf-connecting-ip': address })
    if (answer.status === 429 || answer.status >= 500) throw new Error(`${path} answered ${answer.status}`)
    return answer
  }

  /** Asks over HTTPS; hears the notice if one is due. */
  async poll(device: PlayedDevice): Promise<void> {
    if (device.isEnabled) this.sign(device)
    const { status, body } = await this.https(device, 'GET', '/device/v1/upgrade')
    if (status !== 200 || body.params.version === undefined) return
    const taskId = await this.holderOf(device)
    this.onHanded(device, taskId, body.params)
    device.certain = null
    device.heard = body.params
    if (taskId !== undefined && !device.told.has(taskId)) {
      device.told.set(taskId, { tick: ++this.tick, wasThere: true })
    }
  }

  onHanded: (device: PlayedDevice, taskId: string | undefined, params: Notice['params']) => void = () => {}

  /** A notice over HTTPS does not name its task; it has the slot now. */
  holderOf = async ({ id }: PlayedDevice): Promise<string | undefined> =>
    (await env.DB.prepare("SELECT task_id FROM upgrades WHERE device_id = ? AND module = 'default'")
      .bind(id)
      .first<string>('task_id')) ?? undefined

  async report(device: PlayedDevice): Promise<void> {
    if (device.isEnabled && !device.isDeleted) {
      this.sign(device)
      // A notice that the bridge still has may go out after this.
      const isOnItsWay = this.stage.frames.some(({ notice }) => notice.device === device.id)
      device.certain = isOnItsWay || device.isAwaiting ? null : device.runs
      device.toldSince.clear()
    }
    device.before = null
    await this.says(device, 'inform', { id: '1', params: { version: device.runs } })
  }

  async progress(device: PlayedDevice, step: number): Promise<void> {
    if (device.isEnabled && !device.isDeleted) {
      if (step !== 100) this.sign(device)
      else for (const { id } of this.tasks) device.at100.set(id, { tick: ++this.tick, at: this.now })
    }
    await this.says(device, 'progress', { step: String(step), desc: '' })
  }

  async presence(device: PlayedDevice, isOnline: boolean): Promise<void> {
    if (device.isOnline === isOnline || device.isDeleted) return
    device.isOnline = isOnline
    if (device.isHttps || this.setting.presence === 'unknown') return
    device.isPresenceKnown = true
    const username = device.token
    if (!isOnline) return this.post([{ kind: 'presence', event: 'disconnected', username }])
    this.sign(device)
    await this.post([
      { kind: 'presence', event: 'connected', username },
      { kind: 'presence', event: 'subscribed', username, topic: `ota/device/inform/${username}` },
    ])
  }

  /** Does the notice find a session that takes it? */
  isTaken = (device: PlayedDevice) =>
    !device.isHttps &&
    !device.isDeleted &&
    (device.isOnline || this.setting.presence === 'unknown' || this.setting.keepsNotices)

  /** The bridge publishes what it was handed. */
  async publish(result: 'taken' | 'offline' | 'returned' | 'sent'): Promise<void> {
    const frames = this.stage.frames.splice(0)
    const items: Item[] = []
    for (const { notice, payload } of frames) {
      const device = this.devices.find(({ id }) => id === notice.device)
      if (!device) continue
      const found = result === 'taken' && !this.isTaken(device) ? 'offline' : result
      if (found !== 'returned') items.push({ kind: 'sent', notice })
      if (found !== 'sent') items.push({ kind: 'taken', notice, result: found })
      device.isAwaiting = found === 'sent'
      if (found !== 'taken' && found !== 'sent') continue
      // A notice that was only announced may have been lost.
      const isHeard = this.isTaken(device)
      if (isHeard) {
        const params: Notice['params'] = JSON.parse(payload).params
        device.heard = params
        device.toldSince.add(`${notice.task} ${params.size}`)
      }
      const wasThere = isHeard && (device.isOnline || !device.isPresenceKnown)
      const told = device.told.get(notice.task)
      if (!told?.wasThere) {
        device.told.set(notice.task, { tick: told?.tick ?? ++this.tick, wasThere })
      }
    }
    if (frames.length > 0) this.stage.lab.bridge.grant(frames.length)
    if (items.length > 0) await this.post(items)
  }

  // ---- Time ---------------------------------------------------------------------------------------------

  /** Goes from alarm to alarm; alarms may be a little late. */
  async wait(ms: number, isPublishing = false): Promise<void> {
    const { clock } = this.stage
    for (const until = this.now + ms; this.now < until; ) {
      clock.now = Math.min(until, Math.max(this.now + LEAST_MS, this.nextAlarm))
      this.noteStillThere()
      if (this.now < this.nextAlarm) continue
      await this.ring()
      // A notice that nobody publishes is offered again every minute.
      if (isPublishing && this.stage.frames.length > 0) await this.publish('taken')
    }
  }

  /** A device that is connected five minutes after its 100 % has outlived it. */
  noteStillThere(): void {
    for (const device of this.devices) {
      if (!device.isOnline || !device.isPresenceKnown) continue
      if ([...device.at100.values()].some(({ at }) => this.now >= at + 300_000)) this.sign(device)
    }
  }

  /** Rings alarms until none is due. Returns the tasks as they are stored then. */
  async ring(): Promise<SeenTask[]> {
    const ids = this.devices.map(({ id }) => id)
    for (let rings = 0; rings < MAX_RINGS; rings++) {
      let hasRung = false
      this.nextAlarm = Number.POSITIVE_INFINITY
      const seen: SeenTask[] = []
      for (const played of this.tasks) {
        await runInDurableObject(taskStub(env, played.id), async (task: UpgradeTask, { storage }) => {
          const stored = openTaskStorage(storage)
          let alarm = await storage.getAlarm()
          if (alarm !== null && alarm <= this.now) {
            hasRung = true
            await storage.deleteAlarm()
            await task.alarm()
            alarm = await storage.getAlarm()
          }
          this.noteOpening(played, stored)
          this.nextAlarm = Math.min(this.nextAlarm, alarm ?? this.nextAlarm)
          seen.push({ task: played, run: stored.readTask()!.run, rows: stored.readRowsOf(ids) })
        })
      }
      if (!hasRung) return seen
    }
    throw new Error(`an alarm is still due after ${MAX_RINGS} rings`)
  }

  onOpening: (seen: SeenTask, wave: number) => void = () => {}

  /** Looks right away whether a wave has opened, and on what: much may follow. */
  noteOpening(task: PlayedTask, stored: TaskStorage): void {
    const { run } = stored.readTask()!
    const open = run.waves.findLastIndex(({ openedAt }) => openedAt !== null)
    if (open <= task.open) return
    const isFirst = task.open < 0
    task.open = open
    if (isFirst && open === 0) return
    const rows = stored.readRowsOf(this.devices.map(({ id }) => id))
    this.onOpening({ task, run, rows }, open)
  }

  /** Its tasks and devices would take part in what comes next. */
  async close(): Promise<void> {
    for (const { id } of this.tasks) {
      const stub = taskStub(env, id)
      await runInDurableObject(stub, async (task: UpgradeTask, { storage }) => {
        await task.cancel()
        await task.alarm()
        await storage.deleteAlarm()
      })
    }
    this.stage.frames.length = 0
    this.stage.isAway = false
  }
}
