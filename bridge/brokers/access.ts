import { createHash } from 'node:crypto'
import { parseDownlinkTopic, TOPIC_NAME } from '../../src/messages/protocol.ts'
import type { AclRequest, AuthRequest, Decision, WorkerClient } from '../worker-client.ts'
import { createGate } from './gate.ts'

/** Who may connect and listen (PROTOCOL.md, section 1): the Worker knows; a yes is remembered for a short time. */
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
  worker: WorkerClient,
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

  async function decide(username: string, what: string, gone: () => boolean, ask: () => Promise<Decision>) {
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
      const secret = createHash('sha256').update(`${request.username}\0${request.password}`).digest('base64')
      return decide(request.username, `connect ${secret}`, gone, () => worker.authenticate(request))
    },
    async subscribe(request, gone) {
      // Wildcards, $share and $SYS are no downlink topics either.
      const topic = parseDownlinkTopic(request.topic)
      if (topic === undefined) return 'deny'
      if (topic.family === 'device') return topic.name === request.username ? 'allow' : 'deny'
      return decide(request.username, `subscribe ${topic.name}`, gone, () => worker.maySubscribe(request))
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
