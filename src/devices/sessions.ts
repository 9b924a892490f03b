import type { Env } from '../common/env.ts'
import { dropSessions } from '../hub/hub.ts'

/**
 * Ends a device's open sessions where its broker allows. What was written stands either way, and each message
 * is identified anew, so a hub that cannot be reached is only logged.
 */
export async function endSessions(
  env: Env,
  device: { id: string; tenantId: string; productId: string; accessToken: string },
): Promise<void> {
  try {
    await dropSessions(env, device)
  } catch (error) {
    console.error(JSON.stringify({ code: 'sessions.not_dropped', device: device.id, error: String(error) }))
  }
}
