import type { Env } from '../common/env.ts'
import { conflict, notFound } from '../common/errors.ts'
import type { Db } from '../db/client.ts'
import { newAccessToken } from './device.ts'
import { endSessions } from './sessions.ts'
import { findDevice, replaceToken } from './store.ts'

/**
 * Gives the device a new token. The old one is refused from now on, and its sessions are ended
 * (src/protocol/README.md#devices-that-change).
 */
export async function rotateToken(env: Env, db: Db, tenantId: string, id: string): Promise<string> {
  const device = await findDevice(db, tenantId, id)
  if (!device) throw notFound('device')
  if (device.passwordHash !== null) {
    throw conflict('device.has_credentials', 'The device has a username and password, no token to rotate.')
  }
  const accessToken = newAccessToken()
  if (!(await replaceToken(db, device, accessToken))) {
    throw conflict('device.changed', 'The device was changed at the same time; try again.')
  }
  await endSessions(env, device)
  return accessToken
}
