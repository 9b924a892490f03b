import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Behaviour, DevicePlan } from './behaviour.ts'
import { type Gate, type Link, openLink } from './link.ts'
import { type ReceivedNotice, readNotice } from './notice.ts'
import type { StatsKeeper } from './stats.ts'
import { topicsOf } from './topics.ts'
import { type DeviceTruth, hasEnded, newTruth } from './truth.ts'
import { runUpgrade } from './upgrade.ts'

export interface DeviceIdentity {
  number: string
  accessToken: string
}

/** What all devices of a fleet share. */
export interface FleetContext {
  mqttUrl: string
  behaviour: Behaviour
  stats: StatsKeeper
  connectGate: Gate
  downloadGate: Gate
  /** Called with 1 when a device that had ended begins another upgrade, with −1 when an upgrade has ended. */
  onOpen: (change: 1 | -1) => void
}

export interface SimulatedDevice {
  truth: DeviceTruth
  /** Resolves when the device has reported its version for the first time; rejects if it is stopped before. */
  started: Promise<void>
  stop(): void
}

interface Work {
  notice: ReceivedNotice
  /** The newest link: a repeated notice may bring a fresh one. */
  url: string
  abort: AbortController
}

/** Plays one device over MQTT (src/protocol/README.md). `random` only scatters delays, on which no result depends. */
export function startDevice(
  identity: DeviceIdentity,
  plan: DevicePlan,
  context: FleetContext,
  random: () => number,
): SimulatedDevice {
  const { behaviour, stats } = context
  const topics = topicsOf(behaviour.topics, identity)
  const truth = newTruth(behaviour.version)
  const ending = new AbortController()
  let link: Link | undefined
  let work: Work | undefined
  let endedNoticeId = ''
  let messageId = 0

  const reportVersion = () => {
    messageId++
    const id = String(messageId).padStart(10, '0')
    const params = { version: truth.version, module: behaviour.module }
    return link!.say(topics.inform, { id, params })
  }

  function onMessage(payload: Buffer): void {
    const notice = readNotice(payload)
    if (notice === 'nothing due') return
    stats.tick()
    if (notice === undefined) {
      stats.counts.unreadable++
      return
    }
    stats.counts.notices++
    truth.notices++
    const { version, url } = notice.params
    if (truth.state === 'silent') return
    if (work?.notice.params.version === version) {
      work.url = url
      truth.repeats++
    } else if (version === truth.version) {
      truth.repeats++
      reportVersion().catch(() => {}) // rejects when the device is stopped
    } else if (notice.id === endedNoticeId) {
      truth.repeats++ // the broker delivered it twice
    } else {
      work?.abort.abort()
      begin({ notice, url, abort: new AbortController() })
    }
  }

  function begin(next: Work): void {
    work = next
    if (hasEnded(truth.state)) context.onOpen(1)
    Object.assign(truth, { state: 'working', step: null, detail: null })
    truth.targetVersion = next.notice.params.version
    truth.attempts++
    const signal = AbortSignal.any([ending.signal, next.abort.signal])
    const isFated = plan.fate !== 'success' && truth.attempts <= behaviour.fateTimes
    const upgrade = {
      notice: next.notice,
      url: () => next.url,
      plan: { ...plan, fate: isFated ? plan.fate : ('success' as const) },
      isFirst: truth.attempts === 1,
      behaviour,
      truth,
      topics,
      link: link!,
      reportVersion,
      stats,
      downloadGate: context.downloadGate,
      signal,
    }
    runUpgrade(upgrade).then(
      (state) => {
        endedNoticeId = next.notice.id
        work = undefined
        truth.state = state
        context.onOpen(-1)
        if (behaviour.leaveWhenDone && state === 'success') ending.abort()
      },
      (error: unknown) => {
        // The device was stopped, or another notice replaced this one: no result to record.
        if (!signal.aborted) throw error
      },
    )
  }

  async function run(): Promise<void> {
    const { signal } = ending
    const sleep = (ms: number) => delay(ms, undefined, { signal })
    if (plan.lateMs > 0) await sleep(plan.lateMs)
    const { mqttUrl } = context
    const { cleanSession } = behaviour
    const clientId = `sim-${randomUUID()}`
    const { accessToken } = identity
    link = openLink({
      connection: { mqttUrl, accessToken, clientId, cleanSession, downlink: topics.downlink, onMessage },
      gate: context.connectGate,
      random,
      stats,
      signal,
      sleep,
    })
    await reportVersion()
  }

  const started = run()
  started.catch(() => {}) // callers that wait for it get the error themselves
  return {
    truth,
    started,
    stop: () => ending.abort(),
  }
}
