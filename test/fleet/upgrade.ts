import { setTimeout as delay } from 'node:timers/promises'
import type { Behaviour, DevicePlan } from './behaviour.ts'
import { checkLink, downloadDigests, type FileDigests } from './download.ts'
import { ConnectionLost, UpgradeFault } from './fault.ts'
import type { Gate, Link } from './link.ts'
import type { ReceivedNotice } from './notice.ts'
import type { StatsKeeper } from './stats.ts'
import type { DeviceTopics } from './topics.ts'
import type { DeviceState, DeviceTruth } from './truth.ts'
import { verifyFirmware } from './verify.ts'

export interface Upgrade {
  notice: ReceivedNotice
  /** Returns the newest link. */
  url: () => string
  plan: DevicePlan
  /** Incidents that happen once happen in the first upgrade. */
  isFirst: boolean
  behaviour: Behaviour
  truth: DeviceTruth
  topics: DeviceTopics
  link: Link
  reportVersion: () => Promise<void>
  stats: StatsKeeper
  downloadGate: Gate
  signal: AbortSignal
}

/** Progress in per cent at which the download is done and incidents happen. */
const DOWNLOADED = 60
const AT = { failDownload: 30, offline: 40, silent: 50, failWrite: 80, failUpgrade: 90 }
const DONE = 100

class FellSilent extends Error {}

/**
 * Downloads, checks, writes and reboots, and reports progress (src/protocol/README.md#messages). Returns how the
 * upgrade ended once its last message is acknowledged; rejects only if the signal stops it.
 */
export async function runUpgrade(upgrade: Upgrade): Promise<DeviceState> {
  const { truth, plan } = upgrade
  try {
    await install(upgrade)
    const { version, signCounter = 0 } = upgrade.notice.params
    if (plan.fate !== 'rollBack') Object.assign(truth, { version, counter: signCounter })
    await upgrade.link.reboot()
    await upgrade.reportVersion()
    return plan.fate === 'rollBack' ? 'rolledBack' : 'success'
  } catch (error) {
    upgrade.signal.throwIfAborted()
    if (error instanceof FellSilent) return 'silent'
    if (!(error instanceof UpgradeFault)) throw error
    await say(upgrade, error.step, error.message)
    truth.detail = error.message
    return 'failure'
  }
}

async function install(upgrade: Upgrade): Promise<void> {
  const { notice, truth } = upgrade
  const { sign, size } = notice.params
  const { download: downloads, module, trust } = upgrade.behaviour
  const reach = createProgress(upgrade)
  const digests = downloads ? await download(upgrade, reach) : await look(upgrade)
  await reach(DOWNLOADED)
  if (digests.sign !== sign) throw new UpgradeFault(-3, 'another digest than the notice has')
  if (trust) await verifyFirmware(trust, notice, { ...truth, module }, { size, sha256: digests.sha256 })
  if (upgrade.plan.fate === -3) throw new UpgradeFault(-3, 'signature refused')
  await reach(DONE)
}

function download(upgrade: Upgrade, reach: (percent: number) => Promise<void>): Promise<FileDigests> {
  const { behaviour, plan } = upgrade
  const { size, signMethod } = upgrade.notice.params
  return downloadDigests({
    ...requestOptions(upgrade),
    signMethod,
    chunkBytes: behaviour.chunkBytes,
    bytesPerSecond: behaviour.bytesPerSecond,
    cutAt: plan.cutDownload && upgrade.isFirst ? Math.floor(size / 2) : undefined,
    onBytes: (received) => reach((received / size) * DOWNLOADED),
  })
}

/** Checks the link instead of downloading, and returns the digest of the notice unchecked; from MD5 nothing follows. */
async function look(upgrade: Upgrade): Promise<FileDigests> {
  await checkLink(requestOptions(upgrade))
  const { sign, signMethod } = upgrade.notice.params
  return { sign, sha256: signMethod === 'SHA256' ? sign : '' }
}

const requestOptions = ({ notice, url, link, downloadGate, truth, stats, signal }: Upgrade) => ({
  url,
  stats,
  signal,
  size: notice.params.size,
  gate: downloadGate,
  untilOnline: link.untilOnline,
  onResume() {
    stats.counts.resumes++
    truth.resumes++
  },
  sleep: (ms: number) => delay(ms, undefined, { signal }),
})

/** Returns a function that reports each step up to a percentage; planned incidents happen on the way. */
function createProgress(upgrade: Upgrade): (percent: number) => Promise<void> {
  const { behaviour, signal } = upgrade
  const incidents = incidentsOf(upgrade)
  let reported = 0
  return async (percent) => {
    for (;;) {
      const step = Math.round(((reported + 1) / behaviour.steps) * DONE)
      const incident = incidents[0]
      if (incident && incident.at <= Math.min(step, percent)) {
        incidents.shift()
        await incident.happen()
      } else if (reported < behaviour.steps && step <= percent) {
        if (behaviour.stepMs > 0) await delay(behaviour.stepMs, undefined, { signal })
        signal.throwIfAborted()
        await say(upgrade, step, `Upgrade Progress ${step}%`)
        reported++
      } else return
    }
  }
}

interface Incident {
  at: number
  happen: () => void | Promise<void>
}

function incidentsOf({ plan, isFirst, link, behaviour, signal }: Upgrade): Incident[] {
  const fails = (step: -1 | -2 | -4, description: string) => () => {
    throw new UpgradeFault(step, description)
  }
  const incidents: Incident[] = []
  if (plan.fate === -2) incidents.push({ at: AT.failDownload, happen: fails(-2, 'server not reachable') })
  if (plan.offlineMs > 0 && isFirst) {
    const happen = async () => {
      link.offline()
      delay(plan.offlineMs, undefined, { signal }).then(link.online, () => {}) // rejects when stopped
      // The download uses the same network and breaks too.
      if (behaviour.download) throw new ConnectionLost('offline')
      await link.untilOnline()
    }
    incidents.push({ at: AT.offline, happen })
  }
  if (plan.fate === 'silent') {
    const happen = () => {
      throw new FellSilent()
    }
    incidents.push({ at: AT.silent, happen })
  }
  if (plan.fate === -4) incidents.push({ at: AT.failWrite, happen: fails(-4, 'flash is worn out') })
  if (plan.fate === -1) incidents.push({ at: AT.failUpgrade, happen: fails(-1, 'new image does not boot') })
  return incidents
}

/** Reports progress; step and description are both text, as devices in the field send them. */
async function say(upgrade: Upgrade, step: number, desc: string): Promise<void> {
  const { module } = upgrade.notice.params
  await upgrade.link.say(upgrade.topics.progress, {
    step: String(step),
    desc,
    ...(module !== undefined && { module }),
  })
  upgrade.truth.step = step
}
