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

/** What the devices of a fleet share. */
export interface FleetContext {
  mqttUrl: string
  behaviour: Behaviour
  stats: StatsKeeper
  connectGate: Gate
  downloadGate: Gate
  /** Devices that have not ended an upgrade, or work on another one: one more, one less. */
  onOpen: (change: 1 | -1) => void
}

export interface SimulatedDevice {
  truth: DeviceTruth
  /** Resolves when it has reported its version for the first time; rejects where it is stopped before. */
  started: Promise<void>
  stop(): void
}

interface Work {
  notice: ReceivedNotice
  /** The newest link: it comes with a repeated notice. */
  url: string
  abort: AbortController
}

/** One device over MQTT, as PROTOCOL.md wants it; `random` scatters only what no result depends on. */
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
      reportVersion().catch(() => {}) // stopped
    } else if (notice.id === endedNoticeId) {
      truth.repeats++ // delivered twice
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
        // Stopped, or another notice took its place: nobody is to be told.
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
  started.catch(() => {}) // stopped before; whoever waits is told
  return {
    truth,
    started,
    stop: () => ending.abort(),
  }
}
