import type { TaskContext } from '../effects/task-context.ts'

/** However much happens, who watches is told so often at most. */
const EVERY_MS = 1_000

/** Who watches shows again so often that they may. */
const LIFETIME_MS = 3600_000
/** So many watch at once at most; one of them makes room. */
const MAX_WATCHERS = 200

/** Takes in who watches, and sends the figures as they are. */
export function acceptWatcher(ctx: DurableObjectState, socket: WebSocket, task: TaskContext): void {
  const others = ctx.getWebSockets()
  if (others.length >= MAX_WATCHERS) close(others[0]!)
  ctx.acceptWebSocket(socket)
  socket.serializeAttachment(Date.now() + LIFETIME_MS)
  tellWatcher(socket, task)
}

/** Its page opens another, which is looked at anew. */
const close = (socket: WebSocket) => socket.close(1000, 'renew')

/** Sends a console the figures of the task. */
function tellWatcher(socket: WebSocket, { run }: TaskContext): void {
  try {
    socket.send(JSON.stringify({ status: run.status, counts: run.counts }))
  } catch {
    // It has just gone.
  }
}

/** Tells all who watch a task what its figures are, when they have changed; the last state always arrives. */
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
