import type { Env } from '../common/env.ts'
import { errorFields, logError } from '../common/log.ts'
import { dropSessions } from '../hub/hub.ts'

/**
 * Ends a device's open sessions, if its broker can. An unreachable hub is only logged: the caller's change is
 * already in D1, and every message is checked against D1 again.
 */
export async function endSessions(
  env: Env,
  device: { id: string; tenantId: string; productId: string; accessToken: string },
): Promise<void> {
  try {
    await dropSessions(env, device)
  } catch (error) {
    logError('sessions.not_dropped', { device: device.id, ...errorFields(error) })
  }
}
