import type { TaskContext } from '../effects/task-context.ts'

/** Watchers are told at most this often. */
const EVERY_MS = 1_000

/**
 * A watcher's socket is closed after this, so that its page opens a new one, which is authorised again: who has signed
 * out, or whose key was revoked, hears no more.
 */
const LIFETIME_MS = 60_000
/** At most so many watch at once; the oldest makes room for the next. */
const MAX_WATCHERS = 200

/** Accepts a watcher, and sends it the figures as they are. */
export function acceptWatcher(ctx: DurableObjectState, socket: WebSocket, task: TaskContext): void {
  const others = ctx.getWebSockets()
  if (others.length >= MAX_WATCHERS) close(others[0]!)
  ctx.acceptWebSocket(socket)
  socket.serializeAttachment(Date.now() + LIFETIME_MS)
  tellWatcher(socket, task)
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

/** Tells all watchers of a task its figures when they have changed; the last state always arrives. */
export function createWatchers() {
  let told = ''
  let toldAt = 0
  let later: ReturnType<typeof setTimeout> | undefined

  function tellNow(ctx: DurableObjectState, task: TaskContext): void {
    later = undefined
    const state = JSON.stringify([task.run.status, task.run.counts])
    if (state === told) return
    told = state
    toldAt = Date.now()
    for (const socket of ctx.getWebSockets()) {
      if (toldAt >= Number(socket.deserializeAttachment())) close(socket)
      else tellWatcher(socket, task)
    }
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
