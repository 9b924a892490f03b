import { env } from 'cloudflare:workers'
import { taskStub } from '../../../../src/tasks/api/task-stub.ts'
import type { HistoryEvent } from '../../../../src/tasks/storage/history.ts'
import { faultOfCounters, faultOfNotice, faultOfOpening, faultOfStandstill } from './invariants.ts'
import type { Act, Scenario, Step } from './steps.ts'
import { type PlayedDevice, type PlayedTask, type SeenTask, type Stage, World } from './world.ts'

const MAX_TASKS = 4
const MAX_DEVICES = 8
/** After the scenario, all devices are willing for so many rounds. */
const ROUNDS = 14
const ROUND_MS = 61 * 60_000
/** Nothing more is to be expected once nothing has changed for so many of them. */
const STILL_ROUNDS = 2

/** Plays one scenario and checks the invariants after each step. Throws what it finds. */
export async function play(stage: Stage, { steps, first, ...setting }: Scenario): Promise<void> {
  const world = new World(stage, setting)
  const player = new Player(world)
  stage.clock.now = (Math.floor(stage.clock.now / 1000) + 1) * 1000
  try {
    await world.open()
    stage.isAway = setting.httpsEvery === 1
    await world.createTask(first)
    await player.settle()
    for (const step of steps) {
      await player.take(step)
      await player.settle()
    }
    await player.drain()
  } finally {
    await world.close()
  }
}

class Player {
  faults: string[] = []
  world: World

  constructor(world: World) {
    this.world = world
    world.onHanded = (device, taskId, params) => this.note(faultOfNotice(world, device, taskId, params))
    world.onOpening = (seen, wave) => {
      if (!seen.task.openedByOperator) this.note(faultOfOpening(world, seen, wave))
    }
    world.stage.onOffer = ({ notice, payload }) => {
      const device = world.devices.find(({ id }) => id === notice.device)
      const { code, params } = JSON.parse(payload)
      if (!device || code !== 200) return
      world.onHanded(device, notice.task, params)
      device.certain = null
    }
  }

  note(fault: string | null): void {
    if (fault !== null) this.faults.push(fault)
  }

  async settle(): Promise<SeenTask[]> {
    const seen = await this.world.ring()
    for (const each of seen) {
      this.note(faultOfCounters(each))
      each.task.openedByOperator = false
    }
    this.judge(seen)
    return seen
  }

  /** Throws the first fault, with what the tasks know of the device that it names. */
  judge(seen: SeenTask[]): void {
    const [fault] = this.faults
    if (fault === undefined) return
    const device = this.world.devices.find(({ id, token }) => fault.includes(id) || fault.includes(token))
    const histories = seen.flatMap(({ task, rows }) => {
      const row = rows.find(({ deviceId }) => deviceId === device?.id)
      return [`task ${task.number}: ${row?.upgrade.status}`, ...(row?.events ?? []).slice(-20).map(toLine)]
    })
    throw new Error([fault, ...histories].join('\n'))
  }

  async take(step: Step): Promise<void> {
    const { world } = this
    switch (step.do) {
      case 'wait':
        return world.wait(step.seconds * 1000)
      case 'publish':
        return world.publish(step.result)
      case 'device': {
        const device = this.device(step.device)
        return device && this.act(device, step.what, step.code)
      }
      case 'create':
        if (world.tasks.length < MAX_TASKS) await world.createTask(step.task)
        return
      case 'operate': {
        const task = this.task(step.task)
        return task && this.operate(task, step.what)
      }
      case 'operateDevice': {
        const [task, device] = [this.task(step.task), this.device(step.device)]
        if (task && device) await this.call('POST', `/tasks/${task.id}/devices/${device.id}/${step.what}`)
        return
      }
      case 'catalogue': {
        const device = this.device(step.device)
        return device && this.change(device, step.what)
      }
      case 'freeze':
      case 'unfreeze':
        world.isFrozen = step.do === 'freeze'
        return this.call('POST', `/products/${world.products[0]}/${step.do}`)
      case 'bridgeAway':
        world.stage.isAway = true
        return
      case 'bridgeBack':
        return this.bridgeBack()
    }
  }

  call = async (method: string, path: string, body?: unknown): Promise<void> => {
    const { status } = await this.world.stage.lab.admin.call(method, `/api/v1${path}`, body)
    if (status >= 500) throw new Error(`${method} ${path} answered ${status}`)
  }

  device(number: number): PlayedDevice | undefined {
    const those = this.world.devices.filter(({ isDeleted }) => !isDeleted)
    return those[number % Math.max(those.length, 1)]
  }

  task = (number: number): PlayedTask | undefined =>
    this.world.tasks[number % Math.max(this.world.tasks.length, 1)]

  async bridgeBack(): Promise<void> {
    const { world } = this
    if (world.setting.httpsEvery === 1) return
    world.stage.isAway = false
    // The hub calls the tasks that wait for credit.
    for (const { id } of world.tasks) await taskStub(env, id).wake()
  }

  async operate(task: PlayedTask, what: Extract<Step, { do: 'operate' }>['what']): Promise<void> {
    if (what === 'nextWave') task.openedByOperator = true
    const paths = {
      pause: 'pause',
      resume: 'resume',
      cancel: 'cancel',
      retry: 'retry',
      retryAll: 'retry?include=cancelled',
      nextWave: 'waves/next',
    }
    await this.call('POST', `/tasks/${task.id}/${paths[what]}`)
  }

  async change(device: PlayedDevice, what: Extract<Step, { do: 'catalogue' }>['what']): Promise<void> {
    const { world } = this
    const path = `/devices/${device.id}`
    switch (what) {
      case 'add':
        if (world.devices.length < MAX_DEVICES) await world.addDevice(device.runs)
        return
      case 'delete':
        await this.call('DELETE', path)
        device.isDeleted = true
        return
      case 'disable':
      case 'enable':
        await this.call('PATCH', path, { enabled: what === 'enable' })
        device.isEnabled = what === 'enable'
        return
      case 'move': {
        const productId = world.products.find((id) => id !== device.product)!
        const { status } = await world.stage.lab.admin.call('PATCH', `/api/v1${path}`, { productId })
        if (status >= 500) throw new Error(`the move answered ${status}`)
        if (status >= 300) return
        device.product = productId
        device.certain = null
        device.heard = null
      }
    }
  }

  async act(device: PlayedDevice, what: Act, code: number): Promise<void> {
    const { world } = this
    switch (what) {
      case 'connect':
      case 'disconnect':
        return world.presence(device, what === 'connect')
      case 'ask':
        if (device.isEnabled) world.sign(device)
        return world.says(device, 'request', { id: '7', params: {} })
      case 'report':
        return world.report(device)
      case 'reportOther':
        if (device.isEnabled) world.sign(device)
        return world.says(device, 'inform', { id: '1', params: { version: '1', module: 'WIFI' } })
      case 'flashByHand':
        // Nobody would hear of it.
        if (!device.isEnabled) return
        device.runs = `v${1 + (Math.abs(code) % 3)}`
        return world.report(device)
      case 'start':
        return world.progress(device, 10)
      case 'fail':
        // It has given up: it does not flash this image any more.
        device.heard = null
        // What it had flashed did not last.
        device.runs = device.before ?? device.runs
        device.before = null
        return world.progress(device, code)
      case 'rollBack':
        if (device.before === null) return
        device.runs = device.before
        return world.report(device)
      case 'flash':
      case 'flashAndReport':
      case 'flashInSilence':
        if (device.heard === null) return
        // After a restart it finds that it runs what it is told.
        if (device.heard?.version === device.runs) {
          device.heard = null
          return world.report(device)
        }
        if (!this.flash(device)) {
          device.heard = null
          return world.progress(device, -3)
        }
        if (what === 'flashInSilence') return
        await world.progress(device, 100)
        if (what === 'flashAndReport') await world.report(device)
    }
  }

  /** Returns false if there is nothing to flash, or a diff does not fit. */
  flash(device: PlayedDevice): boolean {
    const { heard } = device
    if (heard === null) return false
    const source = heard.isDiff === 1 ? SOURCES[heard.size] : undefined
    if (source !== undefined && source !== device.runs) return false
    device.before = device.runs
    device.runs = heard.version
    device.heard = null
    return true
  }

  // ---- In the end all are willing -----------------------------------------------------------------------

  async drain(): Promise<void> {
    const { world } = this
    if (world.isFrozen) await this.take({ do: 'unfreeze' })
    await this.bridgeBack()
    for (const device of world.devices) {
      if (device.isDeleted) continue
      if (!device.isEnabled) await this.change(device, 'enable')
      if (device.isHttps) continue
      await world.presence(device, false)
      await world.presence(device, true)
    }
    let seen = await this.settle()
    let before = ''
    for (let round = 0, still = 0; round < ROUNDS && still < STILL_ROUNDS; round++) {
      for (const { task, run } of seen) if (run.status === 'paused') await this.operate(task, 'resume')
      for (let times = 0; times < 2; times++) {
        // The rate lets nobody take all that there is at one moment.
        await world.wait(5000, true)
        await world.publish('taken')
        await this.goAll()
        seen = await this.settle()
      }
      if (!seen.some(isOpen)) return
      const now = JSON.stringify(seen.map(({ run, rows }) => [run.status, run.cuts, rows.map(toState)]))
      still = now === before ? still + 1 : 0
      before = now
      await world.wait(ROUND_MS, true)
    }
    for (const each of seen) this.note(faultOfStandstill(each))
    this.judge(seen)
  }

  /** All devices ask, and do whatever their notices say. */
  async goAll(): Promise<void> {
    const { world } = this
    const there = world.devices.filter(({ isDeleted }) => !isDeleted)
    for (const device of there) if (device.isHttps) await world.poll(device)
    await world.ask(there.filter(({ isHttps }) => !isHttps))
    await world.publish('taken')
    for (const device of there) if (device.heard !== null) await this.act(device, 'flashAndReport', 0)
  }
}

const isOpen = ({ run, rows }: SeenTask) =>
  run.status === 'scheduled' || run.retrying > 0 || rows.some(isGoingOn)

const isGoingOn = ({ upgrade: { status } }: SeenTask['rows'][number]) =>
  status === 'pending' || status === 'pushed' || status === 'upgrading'

const toState = ({ upgrade: { status, attempt, heldUntil } }: SeenTask['rows'][number]) => [
  status,
  attempt,
  heldUntil,
]

const toLine = ({ at, code, params, status }: HistoryEvent) =>
  `  ${new Date(at).toISOString()} ${code} ${JSON.stringify(params)} ${status ?? ''}`

const SOURCES: Record<number, string> = { 112: 'v1', 113: 'v1', 123: 'v2' }
