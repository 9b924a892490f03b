import { keysInForce } from '../../auth/store.ts'
import { errorFields, logError } from '../../common/log.ts'
import { openDb } from '../../db/client.ts'
import type { TaskContext } from '../effects/task-context.ts'

/** Watchers are told at most this often. */
const EVERY_MS = 1_000

/**
 * A watcher's socket is closed after this, so that its page opens a new one, which is authorised again: who has signed
 * out hears no more.
 */
const LIFETIME_MS = 60_000
/** Before watchers are told, their keys are looked at, at most this often: a revoked one ends its sockets. */
const KEYS_EVERY_MS = 4_000
const KEY_HEADER = 'x-key-id'
/** At most so many watch at once; the oldest makes room for the next. */
const MAX_WATCHERS = 200

interface Attachment {
  /** When the socket ends, in ms since 1970. */
  until: number
  /** The id of the key that signed in, or `access:` and an address. */
  keyId: string
}

/** Asks a task for a watcher's socket. Nothing of the browser's own request goes on. */
export const watchRequest = (keyId: string) =>
  new Request('https://task/live', { headers: { upgrade: 'websocket', [KEY_HEADER]: keyId } })

/** Accepts a watcher, and sends it the figures as they are. */
export function acceptWatcher(
  ctx: DurableObjectState,
  socket: WebSocket,
  request: Request,
  task: TaskContext,
): void {
  const others = ctx.getWebSockets()
  if (others.length >= MAX_WATCHERS) close(others[0]!)
  ctx.acceptWebSocket(socket)
  const keyId = request.headers.get(KEY_HEADER) ?? ''
  socket.serializeAttachment({ until: Date.now() + LIFETIME_MS, keyId } satisfies Attachment)
  tellWatcher(socket, task)
}

/** Sockets of an earlier release have no key: they end at once, and their pages open new ones. */
const attachmentOf = (socket: WebSocket): Attachment => {
  const attachment: Attachment | number = socket.deserializeAttachment()
  return typeof attachment === 'object' ? attachment : { until: 0, keyId: '' }
}

/** Closes the sockets whose keys are not in force any more; if D1 cannot say, all of them. */
async function closeRevoked(ctx: DurableObjectState, { env }: TaskContext): Promise<void> {
  const sockets = ctx.getWebSockets()
  const ids = new Set(
    sockets.map((socket) => attachmentOf(socket).keyId).filter((id) => id.startsWith('key_')),
  )
  if (ids.size === 0) return
  try {
    const valid = await keysInForce(openDb(env.DB), [...ids])
    for (const socket of sockets) {
      const { keyId } = attachmentOf(socket)
      if (ids.has(keyId) && !valid.has(keyId)) close(socket)
    }
  } catch (error) {
    logError('task.watchers_unknown', errorFields(error))
    for (const socket of sockets) close(socket)
  }
}

/** The watcher's page opens another socket. */
const close = (socket: WebSocket) => socket.close(1000, 'renew')

/** Sends a console the figures of the task. */
function tellWatcher(socket: WebSocket, { run }: TaskContext): void {
  try {
    socket.send(JSON.stringify({ status: run.status, counts: run.counts }))
  } catch {
    // The socket has just closed.
  }
}

function tellAll(ctx: DurableObjectState, task: TaskContext): void {
  for (const socket of ctx.getWebSockets()) {
    if (socket.readyState !== WebSocket.OPEN) continue
    if (Date.now() >= attachmentOf(socket).until) close(socket)
    else tellWatcher(socket, task)
  }
}

/** Tells all watchers of a task its figures when they have changed; the last state always arrives. */
export function createWatchers() {
  let told = ''
  let toldAt = 0
  let lookedAt = 0
  let later: ReturnType<typeof setTimeout> | undefined

  function tellNow(ctx: DurableObjectState, task: TaskContext): void {
    later = undefined
    const state = JSON.stringify([task.run.status, task.run.counts])
    if (state === told) return
    told = state
    toldAt = Date.now()
    if (toldAt < lookedAt + KEYS_EVERY_MS) {
      tellAll(ctx, task)
      return
    }
    lookedAt = toldAt
    ctx.waitUntil(closeRevoked(ctx, task).then(() => tellAll(ctx, task)))
  }

  return {
    tell(ctx: DurableObjectState, task: TaskContext): void {
      if (later !== undefined || ctx.getWebSockets().length === 0) return
      const wait = toldAt + EVERY_MS - Date.now()
      if (wait <= 0) tellNow(ctx, task)
      else later = setTimeout(() => tellNow(ctx, task), wait)
    },
  }
}
