import { createHash } from 'node:crypto'
import { TOPIC_NAME } from '../../src/protocol/device.ts'
import type { Credentials, Knowledge } from '../credentials.ts'
import type { AclRequest, AuthRequest, Decision, WorkerClient } from '../worker-client.ts'
import { createGate } from './gate.ts'

/**
 * Who may connect and listen (PROTOCOL.md, section 1): what the feed of credentials brought decides. Only while that was
 * never read to its end the Worker is asked for each, and a yes of it remembered for a short time.
 */
export interface Access {
  /** `gone` says that nobody waits for the answer any more. */
  connect(request: AuthRequest, gone: () => boolean): Promise<Decision>
  subscribe(request: AclRequest, gone: () => boolean): Promise<Decision>
  /** Forgets what it knows of a username; answers that are on their way count no more. */
  forget(username: string): void
  /** Grows with each `forget`: what was allowed before is to be asked again. */
  epoch(username: string): number
}

const MAX_REMEMBERED = 50_000

export function createAccess(
  worker: Pick<WorkerClient, 'authenticate' | 'maySubscribe'>,
  credentials: Pick<Credentials, 'check' | 'maySubscribe' | 'isComplete' | 'catchUp'>,
  options: { concurrency: number; cacheMs: number },
): Access {
  const gate = createGate(options.concurrency)
  /** username → what was allowed (a hash of it) → until when. */
  const allowed = new Map<string, Map<string, number>>()
  /** Of forgotten usernames only, for as long as an answer may be on its way. */
  const epochs = new Map<string, number>()
  const epoch = (username: string) => epochs.get(username) ?? 0

  function remember(username: string, what: string): void {
    const known = allowed.get(username) ?? new Map<string, number>()
    allowed.delete(username) // to the end of the line
    allowed.set(username, known)
    known.set(what, performance.now() + options.cacheMs)
    for (const oldest of allowed.keys()) {
      if (allowed.size <= MAX_REMEMBERED) break
      allowed.delete(oldest)
    }
    for (const [key, until] of known) if (until < performance.now()) known.delete(key)
  }

  async function decide(known: () => Promise<Knowledge>, gone: () => boolean, ask: () => Promise<Decision>) {
    let decision = await known()
    if (decision === 'unknown' && credentials.isComplete()) {
      // A device that is new, or a stranger: all who wait share one look.
      const isUpToDate = await credentials.catchUp()
      if (gone()) return 'unavailable'
      decision = await known()
      if (decision === 'unknown') return isUpToDate ? 'deny' : 'unavailable'
    }
    return decision === 'unknown' ? ask() : decision
  }

  async function askWorker(
    username: string,
    what: string,
    gone: () => boolean,
    ask: () => Promise<Decision>,
  ): Promise<Decision> {
    const isKnown = () => (allowed.get(username)?.get(what) ?? 0) > performance.now()
    if (isKnown()) return 'allow'
    return gate(async () => {
      if (isKnown()) return 'allow'
      if (gone()) return 'unavailable'
      const asked = epoch(username)
      const decision = await ask()
      if (epoch(username) !== asked) return 'unavailable'
      if (decision === 'allow') remember(username, what)
      return decision
    })
  }

  return {
    async connect(request, gone) {
      if (!TOPIC_NAME.test(request.username)) return 'deny'
      const { username, password } = request
      const secret = createHash('sha256').update(`${username}\0${password}`).digest('base64')
      const ask = () => worker.authenticate(request)
      return decide(
        () => credentials.check(username, password),
        gone,
        () => askWorker(username, `connect ${secret}`, gone, ask),
      )
    },
    async subscribe(request, gone) {
      const { username, topic } = request
      const ask = () => worker.maySubscribe(request)
      return decide(
        async () => credentials.maySubscribe(username, topic),
        gone,
        () => askWorker(username, `subscribe ${topic}`, gone, ask),
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
