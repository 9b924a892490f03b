import { createHash } from 'node:crypto'
import { TOPIC_NAME } from '../../src/protocol/device.ts'
import type { Credentials, Knowledge } from '../credentials.ts'
import type { AclRequest, AuthRequest, Decision, WorkerClient } from '../worker-client.ts'
import { createGate } from './gate.ts'
import type { Guesses } from './guesses.ts'

/**
 * Who may connect and subscribe (src/protocol/README.md#identity). The local copy of the credentials decides. Until it
 * is complete, the Worker is asked about each unknown username, and its yes is remembered for a short time.
 */
export interface Access {
  /** `isGone` returns true once the client no longer waits for the decision. */
  connect(request: AuthRequest, isGone: () => boolean): Promise<Decision>
  subscribe(request: AclRequest, isGone: () => boolean): Promise<Decision>
  /** Forgets the decisions about a username; the Worker's pending answers about it no longer count. */
  forget(username: string): void
  /** Grows with each `forget`: a decision of an earlier epoch no longer counts. */
  epoch(username: string): number
}

const MAX_REMEMBERED = 50_000

export function createAccess(
  worker: Pick<WorkerClient, 'authenticate' | 'maySubscribe'>,
  credentials: Pick<Credentials, 'check' | 'recall' | 'maySubscribe' | 'isComplete' | 'catchUp'>,
  guesses: Guesses,
  options: { concurrency: number; cacheMs: number },
): Access {
  const gate = createGate(options.concurrency)
  /** username → what was allowed (with hashed credentials) → monotonic time (ms) until which the yes counts. */
  const allowed = new Map<string, Map<string, number>>()
  /** Holds forgotten usernames only; the oldest are dropped beyond MAX_REMEMBERED. */
  const epochs = new Map<string, number>()
  const epoch = (username: string) => epochs.get(username) ?? 0

  function remember(username: string, what: string): void {
    const known = allowed.get(username) ?? new Map<string, number>()
    allowed.delete(username) // moves it to the end of the map
    allowed.set(username, known)
    known.set(what, performance.now() + options.cacheMs)
    for (const oldest of allowed.keys()) {
      if (allowed.size <= MAX_REMEMBERED) break
      allowed.delete(oldest)
    }
    for (const [key, until] of known) if (until < performance.now()) known.delete(key)
  }

  async function decide(
    known: () => Promise<Knowledge>,
    isGone: () => boolean,
    ask: () => Promise<Decision>,
  ) {
    let decision = await known()
    if (decision === 'unknown' && credentials.isComplete()) {
      // Either a new device or a stranger. All connections that wait share one pull.
      const isUpToDate = await credentials.catchUp()
      if (isGone()) return 'unavailable'
      decision = await known()
      if (decision === 'unknown') return isUpToDate ? 'deny' : 'unavailable'
    }
    return decision === 'unknown' ? ask() : decision
  }

  async function askWorker(
    username: string,
    what: string,
    isGone: () => boolean,
    ask: () => Promise<Decision>,
  ): Promise<Decision> {
    const isKnown = () => (allowed.get(username)?.get(what) ?? 0) > performance.now()
    if (isKnown()) return 'allow'
    return gate(async () => {
      if (isKnown()) return 'allow'
      if (isGone()) return 'unavailable'
      const asked = epoch(username)
      const decision = await ask()
      if (epoch(username) !== asked) return 'unavailable'
      if (decision === 'allow') remember(username, what)
      return decision
    })
  }

  return {
    async connect(request, isGone) {
      if (!TOPIC_NAME.test(request.username)) return 'deny'
      const { username, password } = request
      const secret = createHash('sha256').update(`${username}\0${password}`).digest('base64')
      const ask = () => worker.authenticate(request)
      const decideNow = () =>
        decide(
          () => credentials.check(username, password),
          isGone,
          () => askWorker(username, `connect ${secret}`, isGone, ask),
        )
      const recalled = credentials.recall(username, password)
      // A token cannot be guessed, and is looked up at once.
      if (recalled === 'token') return decideNow()
      const isRemembered = recalled === 'password'
      const attempt = { address: request.peerhost, username, isRemembered, mayWait: true, isGone }
      return guesses.verify(attempt, decideNow)
    },
    async subscribe(request, isGone) {
      const { username, topic } = request
      const ask = () => worker.maySubscribe(request)
      return decide(
        async () => credentials.maySubscribe(username, topic),
        isGone,
        () => askWorker(username, `subscribe ${topic}`, isGone, ask),
      )
    },
    forget(username) {
      allowed.delete(username)
      epochs.set(username, epoch(username) + 1)
      for (const oldest of epochs.keys()) {
        if (epochs.size <= MAX_REMEMBERED) break
        epochs.delete(oldest)
      }
    },
    epoch,
  }
}
