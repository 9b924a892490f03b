import { expect } from 'vitest'
import type { TaskMessage } from '../../../src/tasks/steps/deliver.ts'
import { type Device, hasFailed, hasSucceeded, isReached, isWaiting, Reference } from './reference.ts'
import type { Scenario, Step } from './steps.ts'
import { type Fleet, makeSystem, type Seen, type System } from './system.ts'

/** Less than two minutes, since a longer gap is an outage. */
const MAX_GAP_SECONDS = 100
const OUTAGE_MS = 2 * 3_600_000

interface Said {
  device: Device
  message: TaskMessage
  happen: () => void
  /** Whether the task has the message in the device's history, so that a repeat changes nothing. */
  isKnown: boolean
}

/** Plays one scenario on the task and on its reference, and compares them after each step. */
export async function play(
  fleet: Fleet,
  { policy, devices, endsAfterSeconds, steps }: Scenario,
): Promise<void> {
  const { clock } = fleet
  // Links expire at whole seconds.
  clock.now = (Math.floor(clock.now / 1000) + 1) * 1000
  fleet.takeNotices()
  const endAt = endsAfterSeconds === null ? null : clock.now + endsAfterSeconds * 1000
  const system = await makeSystem(fleet, policy, devices, endAt)
  await system.handOver()
  const reference = new Reference(policy, endAt, system.taskId, system.ids, clock.now)
  const player = new Player(fleet, system, reference)
  await player.ring()
  for (let at = 0; at < steps.length; ) {
    // An object cannot be evicted from within.
    if (steps[at]!.step.do === 'evict') await system.evict()
    await system.visit(async () => {
      do {
        const { step, ring } = steps[at]!
        await player.take(step)
        player.compare(ring ? await player.ring() : await system.see())
      } while (++at < steps.length && steps[at]!.step.do !== 'evict')
    })
  }
  await system.visit(() => player.finish())
}

class Player {
  said: Said[] = []
  /** The ids of all notices that the bridge was handed, by device. */
  handed = new Map<string, number[]>()

  fleet: Fleet
  system: System
  model: Reference

  constructor(fleet: Fleet, system: System, model: Reference) {
    this.fleet = fleet
    this.system = system
    this.model = model
  }

  async ring(): Promise<Seen> {
    const seen = await this.system.ring()
    this.model.settle(this.outcome(seen))
    return seen
  }

  /** The choices that the rules left to the task. */
  outcome({ devices }: Seen) {
    const notices = this.fleet.takeNotices()
    for (const { device, id } of notices) this.handed.set(device, [...(this.handed.get(device) ?? []), id])
    return {
      notices,
      looks: new Map(
        [...devices].map(([id, { gone, unseen, reachedAt, reminders }]) => [
          id,
          { isGone: gone, isUnseen: unseen, isReached: reachedAt !== null, reminders },
        ]),
      ),
      succeeded: new Set([...devices].filter(([, { status }]) => status === 'success').map(([id]) => id)),
    }
  }

  device = (number: number): Device => this.model.devices[number % this.model.devices.length]!

  async say(device: Device, event: TaskMessage['event'], happen: () => void, always: boolean): Promise<void> {
    const message = { deviceId: device.id, key: this.system.nextKey(), event }
    await this.system.deliver([message])
    const before = JSON.stringify(device)
    this.model.change(device, happen)
    this.said.push({ device, message, happen, isKnown: always || JSON.stringify(device) !== before })
    this.model.plan()
  }

  async repeat({ device, message, happen, isKnown }: Said): Promise<void> {
    await this.system.deliver([message])
    if (!isKnown) this.model.change(device, happen)
    this.model.plan()
  }

  async take(step: Step): Promise<void> {
    const { model, system, fleet } = this
    switch (step.do) {
      case 'wait':
        for (let left = step.seconds; left > 0; left -= MAX_GAP_SECONDS) {
          fleet.clock.now += Math.min(left, MAX_GAP_SECONDS) * 1000
          await system.handOver()
        }
        model.now = fleet.clock.now
        return
      case 'outage':
        fleet.clock.now += OUTAGE_MS
        model.now = fleet.clock.now
        model.steadySince = model.now
        return system.handOver().then(() => {})
      case 'evict':
        return
      case 'ringEarly':
        await system.ringEarly()
        return model.settle(this.outcome(await system.see()))
      case 'operate':
        return this.operate(step.what)
      case 'changeRate':
        await system.visit(({ task }) => task.patch({ ratePerMinute: step.to }))
        model.rules.ratePerMinute = step.to ?? undefined
        return
      case 'operateDevice':
        return this.operateDevice(this.device(step.device), step.what)
      case 'progress': {
        const device = this.device(step.device)
        const event = { type: 'progress', step: step.step, description: null, viaBridge: true } as const
        return this.say(device, event, () => model.progress(device, step.step), true)
      }
      case 'version': {
        const device = this.device(step.device)
        const version = step.isTarget ? 'v2' : 'v1'
        await system.setVersion(device.id, version)
        device.reportsTarget = step.isTarget
        const event = { type: 'version', version, isHolder: true, viaBridge: true } as const
        return this.say(device, event, () => model.version(device, step.isTarget), true)
      }
      case 'presence':
        return this.presence(this.device(step.device), step.event)
      case 'repeat': {
        const said = this.said.at(-1 - step.back)
        return said && this.repeat(said)
      }
      case 'ask':
        return this.ask(this.device(step.device))
      case 'askHttps':
        return this.askHttps(this.device(step.device))
      case 'bridge': {
        const device = this.device(step.device)
        const noticeId = this.handed.get(device.id)?.at(-1 - step.back)
        if (noticeId === undefined) return
        for (const type of step.results) {
          await this.say(device, { type, noticeId }, () => model.answered(device, type, noticeId), false)
        }
        return
      }
      case 'freeze':
        await system.setFrozen(model.now)
        await system.visit(({ task }) => task.freeze())
        model.frozen = true
        return
      case 'unfreeze':
        await system.setFrozen(null)
        await system.visit(({ task }) => task.unfrozen())
        model.frozen = false
        return
      case 'bridgeAway':
      case 'bridgeBack':
        model.away = step.do === 'bridgeAway'
        model.creditlessSince = null
        model.unconfirmedSince = null
        fleet.setAway(model.away)
        return system.visit(({ task }) => task.wake())
    }
  }

  async operate(what: Extract<Step, { do: 'operate' }>['what']): Promise<void> {
    const { model, system } = this
    const isOver = model.status === 'finished' || model.status === 'cancelled'
    const isPastEnd = model.endAt !== null && model.now >= model.endAt
    switch (what) {
      case 'pause':
        await system.visit(({ task }) => task.pause())
        if (!isOver) model.status = 'paused'
        return
      case 'resume':
        await system.visit(({ task }) => task.resume())
        if (isOver || model.status === 'running') return
        model.status = 'running'
        return model.nextEpoch()
      case 'cancel':
        await system.visit(({ task }) => task.cancel())
        if (model.status !== 'finished') model.status = 'cancelled'
        return
      case 'nextWave':
        await system.visit(({ task }) => task.nextWave())
        if (!isOver && model.openWave >= 0 && model.openWave + 1 < model.sizes.length) model.openNext()
        return
      case 'retry':
      case 'retryAll':
        await system.visit(({ task }) => task.retry({ includeCancelled: what === 'retryAll' }))
        if (model.status === 'cancelled' || isPastEnd) return
        for (const device of model.devices) {
          const isRetried = mayBeRetried(device) || (what === 'retryAll' && device.status === 'cancelled')
          if (isRetried) model.change(device, () => model.retry(device, false))
        }
    }
  }

  async operateDevice(device: Device, what: 'cancel' | 'retry'): Promise<void> {
    const { model, system } = this
    if (what === 'retry') {
      await system.visit(({ task }) => task.retry({ deviceId: device.id }))
      const isOpen = model.status !== 'cancelled' && !(model.endAt !== null && model.now >= model.endAt)
      if (isOpen && (mayBeRetried(device) || device.status === 'cancelled')) {
        model.change(device, () => model.retry(device, false))
      }
      return
    }
    await system.visit(({ task }) => task.cancelDevices([device.id], 'cancelled_by_operator'))
    if (device.status === 'failure') device.retryAt = null
    else if (device.status !== 'success') model.change(device, () => model.end(device, 'cancelled'))
  }

  async presence(device: Device, event: 'subscribed' | 'connected' | 'disconnected'): Promise<void> {
    const { model, system } = this
    device.online = event !== 'disconnected'
    await system.setOnline(device.id, device.online)
    if (event === 'disconnected') device.disconnectedAt = model.now
    const happen = {
      subscribed: () => model.subscribed(device),
      connected: () => model.connected(device),
      disconnected: () => {},
    }[event]
    return this.say(device, { type: event }, happen, false)
  }

  async ask(device: Device): Promise<void> {
    const { model, system } = this
    await system.visit(({ task }) => task.ask([{ deviceId: device.id, key: system.nextKey() }]))
    model.change(device, () => model.asked(device, true))
    model.send(this.outcome(await system.see()), [device])
  }

  async askHttps(device: Device): Promise<void> {
    const { model, system } = this
    const notice = await system.visit(({ task }) => task.handOut(device.id))
    model.polled = true
    model.change(device, () => model.asked(device, false))
    const isThere = device.reportsTarget && !device.holdsSlot
    const isDue = this.isHandedOut(device)
    expect(notice !== null, 'a notice over HTTPS').toBe(isDue && !isThere)
    if (isDue && isThere) {
      model.change(device, () => model.end(device, 'success'))
      device.saidTarget = true
    }
    if (notice === null) return
    const id = Number((notice as { id: string }).id)
    if (device.offer?.id !== id) expect(id).toBeGreaterThan(device.lastNoticeId)
    Object.assign(device, { lastNoticeId: id, holdsSlot: true })
    model.change(device, () => model.handedOut(device))
  }

  isHandedOut(device: Device): boolean {
    const { model } = this
    if (model.isEnded(device) || (device.owed === 'no' && device.offer === null)) return false
    const { open, asks } = model.plan()
    if (model.frozen) return false
    if (device.status === 'upgrading') return asks
    const quota = device.pushes > 0 ? model.resends(model.quota()) : model.quota()
    return (
      open &&
      (quota > 0 || !model.draws(device)) &&
      device.wave <= model.openWave &&
      model.hasRoom(device, 'https')
    )
  }

  compare({ run, devices }: Seen): void {
    const { model } = this
    const ofModel = model.devices.map((device) => {
      const { id, status, attempt, pushes, repushes, rolledBack, gone, unseen } = device
      return {
        id,
        status,
        attempt,
        pushes,
        repushes,
        rolledBack,
        gone,
        unseen,
        reached: device.reachedAt !== null,
      }
    })
    const ofTask = model.devices.map(({ id }) => {
      const { status, attempt, pushes, repushes, rolledBack, gone, unseen, reachedAt } = devices.get(id)!
      return { id, status, attempt, pushes, repushes, rolledBack, gone, unseen, reached: reachedAt !== null }
    })
    const count = (status: string) => model.devices.filter((device) => device.status === status).length
    const settled = model.settled()
    const actual = {
      devices: ofTask,
      status: run.status,
      halted: run.halted,
      counts: run.counts,
      openWave: run.waves.findLastIndex(({ openedAt }) => openedAt !== null),
      waves: run.waves.map(({ devices, size, reached, succeeded, failed, unseen, gone, waiting }) => ({
        devices,
        size,
        reached,
        succeeded,
        failed,
        unseen,
        gone,
        waiting,
      })),
      halt: run.halt,
    }
    const expected = {
      devices: ofModel,
      status: model.status,
      halted: model.halted,
      counts: {
        total: model.devices.length,
        pending: count('pending'),
        pushed: count('pushed'),
        upgrading: count('upgrading'),
        success: count('success'),
        failure: count('failure'),
        cancelled: count('cancelled'),
      },
      openWave: model.openWave,
      waves: model.sizes.map((size, wave) => {
        const those = model.devices.filter((device) => device.wave === wave)
        const number = (is: (device: Device) => boolean) => those.filter(is).length
        return {
          devices: those.length,
          size,
          reached: number(isReached),
          succeeded: number(hasSucceeded),
          failed: number(hasFailed),
          unseen: number((device) => isReached(device) && device.unseen),
          gone: number((device) => isReached(device) && device.gone),
          waiting: number(isWaiting),
        }
      }),
      halt: { epoch: model.epoch, settled: settled.length, failed: settled.filter(hasFailed).length },
    }
    // Texts are compared much faster, and say what differs.
    for (const key of Object.keys(expected) as (keyof typeof expected)[]) {
      const [is, should] = [JSON.stringify(actual[key]), JSON.stringify(expected[key])]
      if (is !== should) throw new Error(`${key}: ${is}\nshould be ${should}`)
    }
  }

  /** Lets everything settle, and compares D1 with the task. */
  async finish(): Promise<void> {
    const { model, system, fleet } = this
    await this.take({ do: 'unfreeze' })
    await this.take({ do: 'bridgeBack' })
    let seen = await system.see()
    // The counts in D1 may be 10 s old, and a change meanwhile is written 10 s later.
    for (let times = 0; times < 2 || (seen.run.unwritten !== 'no' && times < 30); times++) {
      await this.take({ do: 'wait', seconds: 11 })
      await this.ring()
      seen = await system.see()
    }
    this.compare(seen)
    const stored = await system.seeDatabase()
    expect(stored.status).toBe(model.status)
    expect(stored.counts).toEqual(seen.run.counts)
    const ended = model.devices.filter((device) => model.isEnded(device))
    const outcomes = new Map(stored.outcomes.map(({ device_id, ...outcome }) => [device_id, outcome]))
    for (const { id, status, attempt } of ended) expect(outcomes.get(id)).toEqual({ status, attempt })
    expect(stored.active).toEqual(
      new Set(model.devices.filter(({ holdsSlot }) => holdsSlot).map(({ id }) => id)),
    )
    // A task that is still open would take part in the next scenario.
    if (model.status !== 'finished') await system.visit(({ task }) => task.cancel())
    await system.ring()
    fleet.takeNotices()
  }
}

/** Failed, or rolled back after 100 %. */
const mayBeRetried = ({ status, rolledBack }: Device) =>
  status === 'failure' || (status === 'success' && rolledBack)
