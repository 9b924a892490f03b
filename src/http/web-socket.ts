import type { Context } from 'hono'
import { AppError } from '../common/errors.ts'

/** Throws a 426 if the request does not ask for a WebSocket. */
export function requireWebSocket(c: Context): void {
  if (c.req.header('upgrade')?.toLowerCase() !== 'websocket') {
    throw new AppError(426, 'socket.upgrade_required', 'This takes a WebSocket.')
  }
}
