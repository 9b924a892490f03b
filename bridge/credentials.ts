import { setTimeout as sleep } from 'node:timers/promises'
import type { FeedPage } from '../src/protocol/credentials-feed.ts'
import { parseDownlinkTopic, TOPIC_NAME } from '../src/protocol/device.ts'
import { openCredentialStore, type StoredCredential } from './credential-store.ts'
import type { Damage, Damaged } from './database-file.ts'
import { type Log, limited } from './log.ts'
import { createPasswordCheck } from './passwords.ts'
import { createPulls } from './pulls.ts'
import { createWatched } from './watched.ts'

export type Knowledge = 'allow' | 'deny' | 'unknown'

/**
 * Who may connect and subscribe, from the Worker's feed of credentials. It can decide while the Worker is away.
 * Implements src/http/README.md#bridge-and-broker.
 */
export interface Credentials {
  /** Decides from the local copy alone. `unknown`: the feed has not brought this username yet. */
  check(username: string, password: string): Promise<Knowledge>
  /**
   * What is known without a slow check: a device that has no password gave none (`token`), or this password was right
   * not long ago (`password`). Both are to be checked all the same.
   */
  recall(username: string, password: string): 'token' | 'password' | undefined
  /** Whether this username may subscribe to this topic filter. */
  maySubscribe(username: string, filter: string): Knowledge
  /** True once the whole feed was read, perhaps by an earlier run (CREDENTIALS_FILE keeps it). */
  isComplete(): boolean
  /** Pulls the feed now. Simultaneous calls share one pull, and pulls are at least 500 ms apart. Never rejects. */
  refresh(): Promise<void>
  /** Like `refresh`; returns true if everything that the Worker knew at the call has arrived. Waits at most 5 s. */
  catchUp(): Promise<boolean>
  /** The Worker has changed the credentials of this username: it is `unknown` until the next pull has brought them. */
  invalidate(username: string): void
  /** Called for a *watched* username if its device was disabled, deleted, moved out of scope or got new credentials. */
  onRevoked(listener: (username: string) => void): void
  /** Watches a username with a live session. The feed has only hashed usernames, so a revocation finds just these. */
  watch(username: string): void
  unwatch(username: string): void
  /** All sessions have ended. */
  unwatchAll(): void
  counts: { pulls: number; failures: number; pages: number; changes: number; resets: number; revoked: number }
  damage: Damage
  close(): Promise<void>
}

const PULL_GAP_MS = 500
const CATCH_UP_WITHIN_MS = 5_000
const SWEEP_EVERY_MS = 20
const MAX_INVALIDATED = 50_000
/** How many watched usernames are looked up in one turn of the event loop. */
const CHECKED_AT_ONCE = 1_000

/** Opens the file and keeps it up to date. Throws if it cannot be opened. `pull` must not reject. */
export function openCredentials(options: {
  file: string
  /** Names the Worker and the bridge: stored credentials of another origin are discarded. */
  origin: string
  pull: (after: string | undefined, signal: AbortSignal) => Promise<FeedPage | undefined>
  pollMs: number
  backoffBaseMs: number
  onDamaged?: (damaged: Damaged) => void
  log: Log
}): Credentials {
  const { log } = options
  /** The feed brings a new file everything again. The first pull needs no such call. */
  let pullAgain: (() => void) | undefined
  const store = openCredentialStore(options.file, options.origin, (damaged) => {
    options.onDamaged?.(damaged)
    setImmediate(() => pullAgain?.())
  })
  const passwords = createPasswordCheck()
  const counts = { pulls: 0, failures: 0, pages: 0, changes: 0, resets: 0, revoked: 0 }
  const logFailure = limited((times) =>
    log.warn({ code: 'bridge.credentials_feed_failed', times }, 'the credentials feed cannot be read'),
  )
  const logFile = limited((times) =>
    log.error(
      { code: 'bridge.credentials_file_failed', times },
      'the credentials file cannot be read or written',
    ),
  )
  const listeners: ((username: string) => void)[] = []
  const watched = createWatched()
  watched.useSalt(store.salt())
  /** username → how many pulls had begun at that time: the next pull brings its credentials. */
  const invalidated = new Map<string, number>()
  /** The same for watched usernames that are not in the feed: one that the next pull does not bring is revoked. */
  const missing = new Map<string, number>()
  let closed: Promise<void> | undefined
  let sweeping = setTimeout(sweep, SWEEP_EVERY_MS)

  const pulls = createPulls({
    pull,
    intervalMs: options.pollMs,
    minGapMs: PULL_GAP_MS,
    backoffBaseMs: options.backoffBaseMs,
  })
  void pulls.soon()
  pullAgain = () => void pulls.soon()

  /** Reads the feed from the cursor to its end. Pages that were read are kept, even if it breaks off. */
  async function pull(signal: AbortSignal): Promise<boolean> {
    const number = pulls.begun()
    counts.pulls++
    const isGood = await readToEnd(signal)
    if (isGood) settle(number)
    else if (!signal.aborted) {
      counts.failures++
      logFailure()
    }
    return isGood
  }

  async function readToEnd(signal: AbortSignal): Promise<boolean> {
    let after = store.cursor()
    let resets = 0
    for (;;) {
      const page = await options.pull(after, signal)
      if (signal.aborted || !page) return false
      if (page.reset) resets++
      else if (page.more && page.cursor === after) return false
      try {
        applyPage(page)
      } catch {
        logFile()
        return false
      }
      if (!page.more) return true
      // A feed that keeps starting over would be read for ever.
      if (resets > 1) return false
      after = page.cursor
    }
  }

  function applyPage(page: FeedPage): void {
    watched.useSalt(page.salt)
    const before = new Map<string, StoredCredential>()
    for (const { key } of page.items) {
      const username = watched.ofKey(key)
      const known = username === undefined ? undefined : store.find(username)
      if (username !== undefined && known) before.set(username, known)
    }
    const wasLoading = store.isLoading() || page.reset
    store.apply(page)
    counts.pages++
    counts.changes += page.items.length
    if (page.reset) counts.resets++
    for (const [username, { passwordHash }] of before) {
      const now = store.find(username)
      // A session that was opened with another password must end too.
      if (!now || now.passwordHash !== passwordHash) revoke(username)
    }
    if (!wasLoading || store.isLoading()) return
    log.info(
      { code: 'bridge.credentials_loaded', pages: counts.pages },
      'all credentials of this bridge were read',
    )
    clearTimeout(sweeping)
    sweeping = setTimeout(sweep, SWEEP_EVERY_MS)
    void checkAllWatched()
  }

  /** Settles the usernames that waited for this pull or an earlier one. */
  function settle(number: number): void {
    for (const [username, begun] of invalidated) if (begun < number) invalidated.delete(username)
    for (const [username, begun] of missing) {
      if (begun >= number) continue
      missing.delete(username)
      if (!isKnown(username)) revoke(username)
    }
  }

  /** After a load: a watched username that is not in it is gone, or was created while the feed was being read. */
  async function checkAllWatched(): Promise<void> {
    const usernames = watched.all()
    for (let at = 0; at < usernames.length && !closed; at += CHECKED_AT_ONCE) {
      for (const username of usernames.slice(at, at + CHECKED_AT_ONCE)) checkWatched(username)
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  function checkWatched(username: string): void {
    if (!watched.has(username) || isKnown(username)) return
    missing.set(username, pulls.begun())
    void pulls.soon()
  }

  function revoke(username: string): void {
    if (!watched.has(username)) return
    counts.revoked++
    for (const listener of listeners) listener(username)
  }

  function find(username: string): StoredCredential | undefined {
    try {
      return store.find(username)
    } catch {
      logFile()
      return undefined
    }
  }

  /** True also if the file cannot be read: that must not end any session. */
  function isKnown(username: string): boolean {
    try {
      return store.find(username) !== undefined
    } catch {
      logFile()
      return true
    }
  }

  function sweep(): void {
    try {
      if (store.sweep()) sweeping = setTimeout(sweep, SWEEP_EVERY_MS)
    } catch {
      logFile()
    }
  }

  async function catchUp(): Promise<boolean> {
    const late = new AbortController()
    const tooLate = sleep(CATCH_UP_WITHIN_MS, false, { signal: late.signal }).catch(() => false)
    const isGood = await Promise.race([pulls.soon(), tooLate])
    late.abort()
    return isGood
  }

  async function close(): Promise<void> {
    await pulls.close()
    clearTimeout(sweeping)
    store.close()
  }

  return {
    counts,
    damage: store.damage,
    async check(username, password) {
      if (!TOPIC_NAME.test(username)) return 'deny'
      if (invalidated.has(username)) return 'unknown'
      const known = find(username)
      if (!known) return 'unknown'
      if (known.passwordHash === null) return password === '' ? 'allow' : 'deny'
      if (password === '' || !(await passwords.isRight(password, known.passwordHash))) return 'deny'
      // The credentials may have changed while the password was being verified.
      const isSame = !invalidated.has(username) && find(username)?.passwordHash === known.passwordHash
      return isSame ? 'allow' : 'unknown'
    },
    recall(username, password) {
      const known = TOPIC_NAME.test(username) && !invalidated.has(username) ? find(username) : undefined
      if (!known) return undefined
      if (known.passwordHash === null) return password === '' ? 'token' : undefined
      return passwords.isRemembered(password, known.passwordHash) ? 'password' : undefined
    },
    maySubscribe(username, filter) {
      // Wildcards, $share and $SYS are not downlink topics, so they are denied here too.
      const topic = parseDownlinkTopic(filter)
      if (topic === undefined) return 'deny'
      if (topic.family === 'device') return topic.name === username ? 'allow' : 'deny'
      const known = invalidated.has(username) ? undefined : find(username)
      if (!known) return 'unknown'
      if (known.number !== topic.name || store.isShared(topic.name)) return 'deny'
      // Until the whole feed was read, another device may turn out to have the same number.
      return store.isComplete() ? 'allow' : 'unknown'
    },
    isComplete: store.isComplete,
    refresh: async () => void (await catchUp()),
    catchUp,
    invalidate(username) {
      invalidated.delete(username) // moves it to the end of the map
      invalidated.set(username, pulls.begun())
      for (const oldest of invalidated.keys()) {
        if (invalidated.size <= MAX_INVALIDATED) break
        invalidated.delete(oldest)
      }
      void pulls.soon()
    },
    onRevoked: (listener) => {
      listeners.push(listener)
    },
    watch(username) {
      watched.add(username)
      // Its credentials may have changed between the check and the connection.
      if (store.isComplete()) checkWatched(username)
    },
    unwatch(username) {
      watched.remove(username)
      missing.delete(username)
    },
    unwatchAll() {
      watched.clear()
      missing.clear()
    },
    close: () => {
      closed ??= close()
      return closed
    },
  }
}
