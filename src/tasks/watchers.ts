import type { TaskContext } from './task-context.ts'

/** However much happens, who watches is told so often at most. */
const EVERY_MS = 1_000

/** Sends a console the figures of the task. */
export function tellWatcher(socket: WebSocket, { run }: TaskContext): void {
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
    for (const socket of ctx.getWebSockets()) tellWatcher(socket, task)
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
