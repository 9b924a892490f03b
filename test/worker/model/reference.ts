import { placeOf } from '../../../src/tasks/rules/waves.ts'

// The rules of src/protocol/README.md#states and of `policy`, written a second time and as simply as possible. The
// reference shares only one thing with the code: the hash that spreads devices over waves.

const MINUTE = 60_000
const STEP_MS = 250
const LATE_MS = 1000
const IDLE_MS = 10_000
const STILL_THERE_MS = 5 * MINUTE

export interface Rules {
  waves: { percent: number; successPercent: number; soakMinutes: number; topUpMinutes: number }[] | undefined
  haltOn: { failurePercent: number; minFinished: number } | undefined
  autoRetry: { times: number; backoffMinutes: number } | undefined
  ratePerMinute: number | undefined
  deviceTimeoutMinutes: number
  confirm: 'progress' | 'version'
  mismatchPushes: number
  downloadTtlSeconds: number
}

interface Offer {
  id: number
  lease: number
  link: number
  sent: boolean
  sentBefore: boolean
  repush: boolean
  asked: boolean
  turnedUp: boolean
  online: boolean | null
}

const fresh = () => ({
  status: 'pending' as 'pending' | 'pushed' | 'upgrading' | 'success' | 'failure' | 'cancelled',
  owed: 'due' as 'no' | 'due' | 'repush' | 'asked',
  askedRepush: false,
  offer: null as Offer | null,
  pushes: 0,
  repushes: 0,
  takenAt: -Infinity,
  heardAt: -Infinity,
  viaBridge: false,
  reachedAt: null as number | null,
  failedBefore: false,
  gone: false,
  /** A Success by 100 %, and nothing shows yet that the device still runs. */
  unseen: false,
  offline: false,
  /** It subscribed right after a notice: it is told again then, unless it says something. */
  tellAgainAt: Infinity,
  reminders: 0,
  link: -Infinity,
  earlierLink: -Infinity,
  at100: false,
  best: -1,
  saidTarget: false,
  rolledBack: false,
  retryAt: null as number | null,
  autoRetries: 0,
  epoch: null as number | null,
})

export type Device = ReturnType<typeof fresh> & {
  id: string
  wave: number
  /** Its wave as it was at first. */
  plannedWave: number
  attempt: number
  online: boolean | null
  disconnectedAt: number
  reportsTarget: boolean
  holdsSlot: boolean
  lastNoticeId: number
}

const ended = ({ status }: Device) => status === 'success' || status === 'failure' || status === 'cancelled'
const outstanding = ({ owed, offer }: Device) => owed !== 'no' || offer !== null
export const isReached = (d: Device) => (d.reachedAt !== null || d.failedBefore) && d.status !== 'cancelled'
/** A device that failed and is tried again counts as failed until it is reached again. */
const isLost = (d: Device) => d.reachedAt === null && d.status !== 'success'
export const hasFailed = (d: Device) =>
  isReached(d) && (d.status === 'failure' || d.rolledBack || d.gone || isLost(d))
export const hasSucceeded = (d: Device) =>
  isReached(d) && d.status === 'success' && !hasFailed(d) && !d.unseen
export const isWaiting = (d: Device) => !isReached(d) && !ended(d)

/** What the task found when it looked at a device: the rules leave it some time for that. */
export interface Look {
  isGone: boolean
  isUnseen: boolean
  isReached: boolean
  reminders: number
}

export class Reference {
  status: 'running' | 'paused' | 'finished' | 'cancelled' = 'running'
  halted = false
  frozen = false
  /** Whether no bridge has credit. */
  away = false
  /** The end of the last outage, from which silences count. */
  steadySince = 0
  /** Since when the task could not send what was due, for want of a bridge. */
  creditlessSince: number | null = null
  /** Since when no broker answered for a notice. */
  unconfirmedSince: number | null = null
  /** Since the open wave was opened or filled up, a device asked over HTTPS. */
  polled = false
  openWave = -1
  goodSince: number | null = null
  lackingSince: number | null = null
  filledAt = -Infinity
  foundNobodyAt = -Infinity
  /** While first notices wait: so many more were sent again. */
  lead = 0
  epoch = 0
  spent = 0
  isPastEnd = false
  devices: Device[]
  /** How many devices of each wave are to be reached. */
  sizes: number[]

  rules: Rules
  endAt: number | null
  now: number

  constructor(rules: Rules, endAt: number | null, taskId: string, ids: string[], now: number) {
    this.rules = rules
    this.endAt = endAt
    this.now = now
    const places = ids.map((id) => ({ id, place: placeOf(taskId, id) })).sort((a, b) => a.place - b.place)
    const ends = (rules.waves ?? [{ percent: 100 }]).map(({ percent }) =>
      Math.ceil((percent * ids.length) / 100),
    )
    this.sizes = ends.map((end, wave) => end - (ends[wave - 1] ?? 0))
    this.devices = places.map(({ id }, rank) => ({
      ...fresh(),
      id,
      attempt: 1,
      wave: ends.findIndex((end) => rank < end),
      plannedWave: ends.findIndex((end) => rank < end),
      online: null,
      disconnectedAt: -Infinity,
      reportsTarget: false,
      holdsSlot: false,
      lastNoticeId: 0,
    }))
  }

  // ---- The rollout --------------------------------------------------------------------------------------

  /** Halts the task or opens waves; `works`: also takes in devices for silent ones. Returns whether due notices may go out (`open`), and answers to asking devices. */
  plan(works = false): { open: boolean; asks: boolean } {
    for (;;) {
      if (this.status === 'cancelled' || this.status === 'finished') return { open: false, asks: false }
      if (this.endAt !== null && this.now >= this.endAt) return { open: false, asks: true }
      if (this.status === 'paused') return { open: false, asks: true }
      if (this.hasTooManyFailures()) {
        this.status = 'paused'
        this.halted = true
      } else if (this.isNextWaveDue()) this.openNext()
      else {
        const { ended, silent } = this.missing()
        if (ended > 0) this.fill(ended)
        else if (!works || silent === 0 || !this.topUp(silent)) return { open: true, asks: true }
      }
    }
  }

  settled = () => this.devices.filter((d) => d.epoch === this.epoch && (hasFailed(d) || hasSucceeded(d)))

  hasTooManyFailures(): boolean {
    const { haltOn } = this.rules
    const settled = this.settled()
    if (!haltOn || settled.length < haltOn.minFinished) return false
    return (100 * settled.filter(hasFailed).length) / settled.length > haltOn.failurePercent
  }

  isNextWaveDue(): boolean {
    const size = this.sizes[this.openWave + 1]
    if (size === undefined) return false
    if (this.openWave < 0) return true
    const { successPercent, soakMinutes } = this.rules.waves![this.openWave]!
    const wave = this.ofWave()
    const reached = wave.filter(isReached).length
    const isEnough =
      reached > 0 && this.isComplete() && (100 * wave.filter(hasSucceeded).length) / reached >= successPercent
    const isUnderWay = this.underWay() > 0
    const soaks = isEnough && (this.goodSince !== null || !isUnderWay)
    this.goodSince = soaks ? (this.goodSince ?? this.now) : null
    if (isUnderWay) return false
    return this.goodSince !== null && this.now >= this.goodSince + soakMinutes * MINUTE
  }

  ofWave = () => this.devices.filter((d) => d.wave === this.openWave)
  behind = () => this.devices.filter((d) => d.wave > this.openWave)
  unreachableSince = () => Math.min(this.creditlessSince ?? Infinity, this.unconfirmedSince ?? Infinity)
  isBridgeAway = () => this.now >= this.unreachableSince() + MINUTE
  isFilled = () => this.filledAt > -Infinity
  underWay(): number {
    if (this.isBridgeAway()) return 0
    const all = this.ofWave().filter((d) => !ended(d) && d.reachedAt === null && outstanding(d)).length
    if (!this.isFilled()) return all
    return Math.min(all, Math.max(this.lacking(), this.onTheirWay()))
  }

  /** So many are still to be reached. */
  lacking = () => this.sizes[this.openWave]! - this.ofWave().filter(isReached).length
  onTheirWay = () =>
    this.ofWave().filter((d) => !ended(d) && !isReached(d) && d.attempt === 1 && d.offer !== null).length

  /** A wave that was filled up tells no more devices for the first time than it is to reach. */
  room(via: 'bridge' | 'https' = 'bridge'): number {
    if (this.openWave < 0 || this.openWave === this.sizes.length - 1 || !this.isFilled()) return Infinity
    return this.lacking() - (via === 'https' && this.isBridgeAway() ? 0 : this.onTheirWay())
  }

  takesRoom = (d: Device) =>
    d.wave === this.openWave && d.attempt === 1 && d.pushes === 0 && d.offer === null && !isReached(d)
  hasRoom = (d: Device, via: 'bridge' | 'https' = 'bridge') => !this.takesRoom(d) || this.room(via) > 0
  isComplete = () =>
    this.ofWave().filter(isReached).length >= this.sizes[this.openWave]! ||
    ![...this.ofWave(), ...this.behind()].some(isWaiting)

  /** How many devices the open wave takes from those behind it now: for those that ended, or that were not reached. */
  missing(): { ended: number; silent: number } {
    const none = { ended: 0, silent: 0 }
    const size = this.sizes[this.openWave]
    if (size === undefined || this.sizes[this.openWave + 1] === undefined) return none
    const reached = this.ofWave().filter(isReached).length
    const lacking = size - reached - this.underWay()
    if (lacking <= 0 || !this.behind().some(isWaiting)) {
      if (reached >= size || !this.behind().some(isWaiting)) this.lackingSince = null
      return none
    }
    this.lackingSince ??= this.now
    const endedUnreached = size - reached - this.ofWave().filter(isWaiting).length
    const isTelling = this.ofWave().some((d) => !ended(d) && d.reachedAt === null && outstanding(d))
    if (this.underWay() > 0 || (this.isBridgeAway() && isTelling && !this.polled)) return none
    if (this.now < this.filledAt + Math.ceil(this.devices.length / 10)) return none
    const isAtOnce = endedUnreached > 0 && !this.ofWave().some(({ status }) => status === 'upgrading')
    const { topUpMinutes } = this.rules.waves![this.openWave]!
    if (!isAtOnce && this.now < this.lackingSince + topUpMinutes * MINUTE) return none
    if (endedUnreached > 0) return { ...none, ended: endedUnreached }
    return this.now < this.foundNobodyAt + 15 * MINUTE ? none : { ...none, silent: lacking }
  }

  /** Can it be reached now? It is connected, or may be, or asked over HTTPS. */
  isReachable(d: Device): boolean {
    const isTelling = this.ofWave().some((d) => !ended(d) && d.reachedAt === null && outstanding(d))
    const isAway = isTelling && this.isBridgeAway()
    const since = Math.max(this.isBridgeAway() ? this.unreachableSince() : 0, this.now - 120 * MINUTE)
    return d.online === null || (d.online && !isAway) || d.heardAt > since
  }

  /** Takes in the next devices that can be reached, if there are any. */
  topUp(count: number): boolean {
    const behind = this.behind().filter((d) => !ended(d))
    const next = behind.filter((d) => this.isReachable(d)).slice(0, count)
    for (const d of next) {
      this.sizes[d.wave]!--
      d.wave = this.openWave
    }
    if (next.length > 0) this.noteFilled()
    else this.foundNobodyAt = this.now
    return next.length > 0
  }

  noteFilled = () =>
    Object.assign(this, {
      filledAt: this.now,
      foundNobodyAt: -Infinity,
      lackingSince: null,
      goodSince: null,
      polled: false,
    })

  /** The devices are in the order of their places. */
  fill(count: number): void {
    for (const d of this.behind()
      .filter((d) => !ended(d))
      .slice(0, count)) {
      this.sizes[d.wave]!--
      d.wave = this.openWave
    }
    this.noteFilled()
  }

  openNext(): void {
    this.giveBack()
    do this.openWave++
    while (
      !this.devices.some((d) => d.wave === this.openWave) &&
      this.openWave > 0 &&
      this.openWave + 1 < this.sizes.length
    )
    Object.assign(this, {
      goodSince: null,
      lackingSince: null,
      filledAt: -Infinity,
      foundNobodyAt: -Infinity,
      polled: false,
    })
  }

  /** What the open wave took in and did not tell goes back. */
  giveBack(): void {
    if (this.openWave < 0 || !this.isFilled()) return
    for (const d of this.ofWave()) {
      if (ended(d) || d.pushes > 0 || d.offer !== null || isReached(d) || d.plannedWave <= this.openWave)
        continue
      d.wave = d.plannedWave
      this.sizes[d.wave]!++
    }
  }

  spacing = () => (MINUTE + LATE_MS) / this.rules.ratePerMinute!
  unspent(): number {
    const idle = this.now - this.spent
    return Math.max(idle <= IDLE_MS ? Math.min(idle, LATE_MS) : STEP_MS, Math.min(idle, this.spacing()))
  }

  quota = () =>
    this.rules.ratePerMinute === undefined ? 1000 : Math.floor(this.unspent() / this.spacing() + 1e-6)
  spend(): void {
    if (this.rules.ratePerMinute === undefined) return
    this.spent = Math.min(this.now - this.unspent() + this.spacing(), this.now + MINUTE)
  }

  /** The devices that may be sent a notice now if the rate allows it. */
  due(among: Device[] = this.devices): Device[] {
    const { open, asks } = this.plan()
    if (this.frozen) return []
    return among.filter(
      (d) =>
        !ended(d) &&
        d.owed !== 'no' &&
        d.wave <= this.openWave &&
        this.hasRoom(d) &&
        (open || (asks && d.owed === 'asked')),
    )
  }

  // ---- What happens to a device -------------------------------------------------------------------------

  /** Every change of a device goes through here, since the halt rule counts the devices that settle. */
  change(d: Device, change: () => void): void {
    const failed = hasFailed(d)
    const succeeded = hasSucceeded(d)
    const status = d.status
    change()
    if (d.status === 'failure' && status !== 'failure') this.planRetry(d)
    if (hasFailed(d) === failed && hasSucceeded(d) === succeeded) return
    d.epoch = hasFailed(d) || hasSucceeded(d) ? this.epoch : null
  }

  failedBy: number | 'timeout' | 'other' = 'other'

  planRetry(d: Device): void {
    const { times, backoffMinutes } = this.rules.autoRetry ?? { times: 0, backoffMinutes: 0 }
    const heals = this.failedBy === 'timeout' || this.failedBy === -1 || this.failedBy === -2
    if (this.isPastEnd || !heals || d.autoRetries >= times) return
    d.retryAt = this.now + backoffMinutes * MINUTE * 2 ** d.autoRetries
  }

  end(d: Device, status: 'success' | 'failure' | 'cancelled', by: Reference['failedBy'] = 'other'): void {
    this.failedBy = by
    Object.assign(d, {
      status,
      owed: 'no',
      offer: null,
      gone: false,
      unseen: false,
      retryAt: null,
      tellAgainAt: Infinity,
    })
  }

  present(d: Device): void {
    if (d.pushes > 0) d.reachedAt ??= this.now
    d.gone = false
    d.offline = false
  }

  heard(d: Device, viaBridge: boolean): void {
    this.present(d)
    d.heardAt = this.now
    d.tellAgainAt = Infinity
    d.viaBridge ||= viaBridge
  }

  progress(d: Device, step: number): void {
    if (step < 0 && d.status === 'success' && d.at100 && !d.saidTarget) d.rolledBack = true
    if (ended(d) && step !== 100) this.seenAgain(d)
    if (ended(d) || d.pushes === 0) return
    const linksExpired =
      d.link <= this.now ||
      ((d.offer?.sent || this.now - d.takenAt < MINUTE) &&
        d.earlierLink > -Infinity &&
        d.earlierLink <= this.now)
    this.heard(d, true)
    if (step > d.best && !(step === -2 && linksExpired)) Object.assign(d, { best: step, repushes: 0 })
    if (step === -2 && linksExpired) {
      if (outstanding(d)) return
      if (d.repushes < this.rules.mismatchPushes) {
        d.owed = 'repush'
        return
      }
    }
    if (d.offer?.sent) Object.assign(d, { offer: null, owed: 'no' })
    else if (d.offer === null && d.owed === 'due') d.owed = 'no'
    if (step < 0) this.end(d, 'failure', step)
    else {
      d.status = 'upgrading'
      d.at100 ||= step === 100
      if (step === 100 && this.rules.confirm === 'progress') {
        this.end(d, 'success')
        d.unseen = true
      }
    }
  }

  /** Something shows that it still runs after its 100 %. */
  seenAgain(d: Device): void {
    if (d.unseen) Object.assign(d, { unseen: false, gone: false })
  }

  version(d: Device, isTarget: boolean): void {
    if (ended(d)) this.seenAgain(d)
    const isNews = d.status === 'success' && (!d.saidTarget || d.rolledBack)
    if (isTarget && (!ended(d) || d.status === 'failure' || isNews)) {
      this.heard(d, true)
      d.saidTarget = true
      d.rolledBack = false
      if (d.status !== 'success') this.end(d, 'success')
      return
    }
    if (!isTarget && d.status === 'success' && d.at100 && !d.saidTarget) d.rolledBack = true
    if (ended(d)) return
    const wasOutstanding = outstanding(d)
    this.heard(d, true)
    if (d.offer) d.offer.turnedUp = true
    if (d.status === 'pending') {
      if (!wasOutstanding) d.owed = 'due'
    } else if (this.rules.confirm === 'version' && d.at100) {
      d.rolledBack = true
      this.end(d, 'failure')
    } else if (!wasOutstanding && d.repushes < this.rules.mismatchPushes) d.owed = 'repush'
    else if (!wasOutstanding) this.end(d, 'failure')
  }

  subscribed(d: Device): void {
    if (ended(d)) this.seenAgain(d)
    if (ended(d)) return
    this.present(d)
    if (d.status === 'upgrading') return
    if (outstanding(d)) {
      if (d.offer) d.offer.turnedUp = true
    } else if (this.now - d.takenAt >= MINUTE) d.owed = 'due'
    else if (d.heardAt <= d.takenAt) d.tellAgainAt = d.takenAt + MINUTE
  }

  connected(d: Device): void {
    if (ended(d)) this.seenAgain(d)
    else if (d.pushes > 0) this.present(d)
  }

  asked(d: Device, viaBridge: boolean): void {
    if (ended(d)) this.seenAgain(d)
    if (ended(d)) return
    this.heard(d, viaBridge)
    if (d.offer) d.offer.turnedUp = true
    if (d.status !== 'upgrading') {
      if (!outstanding(d)) d.owed = 'due'
    } else if (d.offer === null || d.owed !== 'no') {
      d.askedRepush = d.owed === 'repush' || (d.owed === 'asked' && d.askedRepush)
      d.owed = 'asked'
    }
  }

  // ---- Notices ------------------------------------------------------------------------------------------

  isRepush = (d: Device) => d.owed === 'repush' || (d.owed === 'asked' && d.askedRepush)

  offered(d: Device, id: number): void {
    const sentBefore = d.offer?.id === id && d.offer.sent
    const link = this.newLink()
    d.offer = {
      id,
      lease: this.now + MINUTE,
      link,
      sent: sentBefore,
      sentBefore,
      repush: this.isRepush(d),
      asked: d.owed === 'asked',
      turnedUp: false,
      online: d.online,
    }
    d.owed = 'no'
    d.offline = false
    this.spend()
  }

  /** When a link that is made now expires: not after the end of the task. */
  newLink(): number {
    const left =
      this.endAt !== null && this.endAt > this.now ? Math.floor((this.endAt - this.now) / 1000) : Infinity
    const seconds = Math.max(1, Math.min(this.rules.downloadTtlSeconds, left))
    return (Math.floor(this.now / 1000) + seconds) * 1000
  }

  wentOut(d: Device, link: number, repush: boolean): void {
    d.pushes++
    if (repush) d.repushes++
    d.earlierLink = d.link
    d.link = Math.max(d.link, link)
  }

  answered(d: Device, result: 'sent' | 'taken' | 'offline' | 'returned', id: number): void {
    const { offer } = d
    if (ended(d) || offer?.id !== id) return
    if (result === 'taken' || result === 'offline') this.unconfirmedSince = null
    if (result === 'returned') this.unconfirmedSince ??= this.now
    if ((result === 'sent' || result === 'taken') && !offer.sent) {
      this.wentOut(d, offer.link, offer.repush)
      offer.sent = true
    }
    if (result === 'taken') {
      if (d.status === 'pending') d.status = 'pushed'
      Object.assign(d, { offer: null, owed: 'no', offline: false, takenAt: this.now, viaBridge: true })
      if (offer.online !== false || offer.turnedUp) this.present(d)
    }
    if (result === 'offline') {
      if (offer.sent && !offer.sentBefore) {
        d.pushes--
        if (offer.repush) d.repushes--
        d.link = d.earlierLink
        offer.sent = false
      }
      if (!offer.turnedUp) Object.assign(d, { offer: null, owed: 'no', offline: true })
    }
    if (result === 'returned' || (result === 'offline' && offer.turnedUp)) this.owedAgain(d)
  }

  owedAgain(d: Device): void {
    if (d.owed !== 'no') return
    const { asked, repush } = d.offer!
    if (asked) d.askedRepush = repush
    d.owed = asked ? 'asked' : repush ? 'repush' : 'due'
  }

  /** The same notice again, over HTTPS, is counted once. */
  draws = (d: Device) => d.pushes === 0 || this.isRepush(d)

  handedOut(d: Device): void {
    const again = this.draws(d) && d.pushes > 0 ? 1 : 0
    const first = this.draws(d) && d.pushes === 0 ? 1 : 0
    if (this.draws(d)) this.spend()
    const link = this.newLink()
    this.wentOut(
      d,
      link,
      !(d.offer?.sent && d.offer.repush) && (this.isRepush(d) || d.offer?.repush === true),
    )
    this.present(d)
    if (d.status === 'pending') d.status = 'pushed'
    Object.assign(d, { owed: 'no', offer: null, takenAt: this.now, heardAt: this.now })
    this.share(first, again)
  }

  // ---- The share of first notices -----------------------------------------------------------------------

  isFirstWaiting = () =>
    this.devices.some(
      (d) => !ended(d) && d.owed !== 'no' && d.pushes === 0 && d.wave <= this.openWave && this.hasRoom(d),
    )

  /** Of so many notices now, how many may be sent again. */
  resends = (quota: number) =>
    this.rules.ratePerMinute !== undefined && this.plan().open && this.isFirstWaiting()
      ? Math.max(0, Math.floor((quota + 1 - this.lead) / 2))
      : quota

  share(first: number, again: number): void {
    this.lead = this.isFirstWaiting() ? Math.max(0, this.lead + again - first) : 0
  }

  retry(d: Device, bySelf: boolean): void {
    const autoRetries = bySelf ? d.autoRetries + 1 : 0
    const { attempt, epoch } = d
    const failedBefore = (d.status === 'failure' || d.rolledBack) && isReached(d)
    Object.assign(d, fresh(), { attempt: attempt + 1, autoRetries, failedBefore, epoch, holdsSlot: false })
    if (this.status === 'finished') this.status = 'running'
  }

  // ---- Time ---------------------------------------------------------------------------------------------

  /** The time from which the silence of a device is a timeout or makes it gone. */
  silentAt(d: Device): number {
    const heard =
      d.status === 'upgrading' || d.unseen ? d.heardAt : Math.max(d.heardAt, d.takenAt, d.reachedAt!)
    return Math.max(heard, d.viaBridge ? this.steadySince : 0) + this.rules.deviceTimeoutMinutes * MINUTE
  }

  lookAtTime(d: Device, { isGone, isUnseen, isReached, reminders }: Look): void {
    if (d.tellAgainAt <= this.now) Object.assign(d, { owed: 'due', tellAgainAt: Infinity })
    if (d.offer && d.owed === 'no' && d.offer.lease <= this.now) {
      this.owedAgain(d)
      this.unconfirmedSince ??= this.now
    }
    if (d.retryAt !== null && d.retryAt <= this.now) this.retry(d, true)
    if (d.status === 'upgrading' && this.silentAt(d) <= this.now) this.end(d, 'failure', 'timeout')
    if (d.unseen && !d.gone) this.lookAfter100(d, isGone, isUnseen)
    if (d.status !== 'pushed' || d.reachedAt === null || d.gone) return
    // Nobody can tell whether it was there.
    if (this.silentAt(d) <= this.now && d.online === null) {
      if (isReached) throw new Error(`${d.id} counts as reached`)
      this.lackingSince ??= d.wave === this.openWave ? d.takenAt : null
      d.reachedAt = null
      return
    }
    if (reminders > d.reminders) {
      const isSilent = this.silentAt(d) <= this.now && d.online === true && !outstanding(d)
      if (!isSilent || reminders > d.reminders + 1 || reminders > 3) throw new Error(`${d.id} was reminded`)
      Object.assign(d, { reminders, owed: 'due' })
    }
    const mayBeGone = this.silentAt(d) <= this.now && d.online === false
    if (isGone && !mayBeGone) throw new Error(`${d.id} is not gone`)
    if (!isGone && mayBeGone && this.now >= d.disconnectedAt + MINUTE) throw new Error(`${d.id} is gone`)
    d.gone = isGone
  }

  /** A device that said 100 % outlives it, or is gone. */
  lookAfter100(d: Device, isGone: boolean, isUnseen: boolean): void {
    const isSilent = this.silentAt(d) <= this.now
    const isStill = this.now >= Math.ceil((d.heardAt + STILL_THERE_MS) / 10_000) * 10_000
    // Without a gate that waits for it, it is looked at later.
    const isLooked = this.rules.waves || this.rules.haltOn ? isStill : isSilent
    if ((isLooked && isStill && d.online === true) || (isSilent && d.online === null)) {
      if (isUnseen) throw new Error(`${d.id} was seen again`)
      this.seenAgain(d)
    } else {
      if (!isUnseen && !(isStill && d.online === true)) throw new Error(`${d.id} was not seen again`)
      if (!isUnseen) {
        this.seenAgain(d)
        return
      }
      const mayBeGone = isSilent && d.online === false
      if (isGone && !mayBeGone) throw new Error(`${d.id} is not gone after 100 %`)
      if (!isGone && mayBeGone && isStill) throw new Error(`${d.id} is gone after 100 %`)
      d.gone = isGone
    }
  }

  /**
   * Does all that is due. `seen` holds the choices that the rules leave to the task: which devices got their notices
   * first, and how soon it noticed that a device is gone or on the target already.
   */
  settle(seen: {
    notices: { device: string; id: number }[]
    looks: Map<string, Look>
    succeeded: Set<string>
  }): void {
    for (let before = ''; before !== JSON.stringify(this.devices); ) {
      before = JSON.stringify(this.devices)
      this.passTime(seen)
      this.send(seen)
      this.finish()
    }
    for (const d of this.devices) if (ended(d)) d.holdsSlot = false
  }

  /** Runs before `send`, since a device that fails by it and is tried again at once may get a notice. */
  passTime({ looks }: { looks: Map<string, Look> }): void {
    const isEnd = this.endAt !== null && this.now >= this.endAt
    for (let before = ''; before !== JSON.stringify(this.devices); ) {
      before = JSON.stringify(this.devices)
      for (const d of this.devices) {
        if (this.status === 'cancelled' && !ended(d)) this.change(d, () => this.end(d, 'cancelled'))
        if (isEnd && (d.status === 'pending' || d.status === 'pushed'))
          this.change(d, () => this.end(d, 'cancelled'))
        if (isEnd || this.status === 'cancelled') d.retryAt = null
        this.change(d, () => this.lookAtTime(d, looks.get(d.id)!))
      }
      this.isPastEnd ||= isEnd
      this.plan(true)
    }
  }

  finish(): void {
    const isOpen = this.devices.some((d) => !ended(d) || d.retryAt !== null)
    if (!isOpen && this.status !== 'cancelled') this.status = 'finished'
  }

  send(
    seen: { notices: { device: string; id: number }[]; succeeded: Set<string> },
    among = this.devices,
  ): void {
    const due = this.due(among)
    const there = due.filter((d) => d.reportsTarget && !d.holdsSlot)
    const told = due.filter((d) => !there.includes(d))
    for (const d of there) {
      if (seen.succeeded.has(d.id)) this.change(d, () => this.end(d, 'success'))
      else if (this.rules.ratePerMinute === undefined && !this.away)
        throw new Error(`${d.id} is on the target already`)
      if (d.status === 'success') d.saidTarget = true
    }
    if (this.away && told.length > 0 && this.quota() > 0) this.creditlessSince ??= this.now
    const quota = this.quota()
    const again = among === this.devices ? told.length : this.resends(quota)
    const tooMany = Math.max(0, told.filter(this.takesRoom).length - Math.max(0, this.room()))
    const asking =
      told.filter((d) => d.pushes === 0).length -
      tooMany +
      Math.min(again, told.filter((d) => d.pushes > 0).length)
    const expected = this.away ? 0 : Math.min(quota, asking)
    const notices = seen.notices.splice(0, expected)
    // Notices for less than one step of the rate may wait until the step is full.
    const mayWait = this.rules.ratePerMinute !== undefined && this.now < this.spent + STEP_MS
    // A bridge whose broker stays away is asked less often.
    const mayBeBlocked = this.unconfirmedSince !== null && this.isBridgeAway()
    if (notices.length !== expected && !mayWait && !mayBeBlocked)
      throw new Error(`${notices.length} notices instead of ${expected}`)
    const sent = { first: 0, again: 0 }
    for (const { device, id } of notices) {
      sent[this.notice(told, device, id).pushes === 0 ? 'first' : 'again']++
      this.creditlessSince = null
    }
    if (this.rules.ratePerMinute === undefined || notices.length === 0) return
    this.share(sent.first, sent.again)
    if (this.lead > 1) throw new Error(`${this.lead} notices more were sent again than for the first time`)
  }

  notice(due: Device[], device: string, id: number): Device {
    const d = due.find((each) => each.id === device)
    if (!d) throw new Error(`a notice for ${device}, for which none is due`)
    if (!this.hasRoom(d)) throw new Error(`a notice for ${device}, for which the wave has no room`)
    const again = d.offer?.id
    if (again === undefined ? id <= d.lastNoticeId : id !== again)
      throw new Error(`${device}: notice id ${id}`)
    Object.assign(d, { lastNoticeId: id, holdsSlot: true })
    this.change(d, () => this.offered(d, id))
    return d
  }

  isEnded = ended

  nextEpoch(): void {
    if (this.halted) this.epoch++
    this.halted = false
  }
}
