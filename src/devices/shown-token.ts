import type { Context } from 'hono'
import { audit } from '../audit/audit.ts'
import type { AppEnv } from '../http/principal.ts'

/** A client that reads the same device again and again makes an entry this often, in each isolate. */
const AGAIN_AFTER_MS = 3600_000
const MAX_REMEMBERED = 10_000

/** Key and device → when it was recorded, ms. */
const recorded = new Map<string, number>()

/**
 * Records that the caller is about to be shown the device's token, with which anybody can act as the device. Throws if
 * that cannot be recorded.
 */
export async function auditShownToken(c: Context<AppEnv>, deviceId: string, now: number): Promise<void> {
  const key = `${c.var.principal.keyId} ${deviceId}`
  if (now - (recorded.get(key) ?? 0) < AGAIN_AFTER_MS) return
  await audit(c, { action: 'device.reveal_token', target: deviceId })
  recorded.delete(key)
  recorded.set(key, now)
  if (recorded.size > MAX_REMEMBERED) recorded.delete(recorded.keys().next().value!)
}
