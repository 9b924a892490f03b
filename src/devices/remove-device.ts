import type { Env } from '../common/env.ts'
import { notFound } from '../common/errors.ts'
import { errorFields, logError } from '../common/log.ts'
import type { Db } from '../db/client.ts'
import { cancelDeletedDevice } from '../tasks/api/tell-tasks.ts'
import { endSessions } from './sessions.ts'
import { deleteDevice } from './store.ts'

/**
 * Deletes a device and tells its tasks, which turn it Cancelled. A task that could not be told finds out by itself
 * when it next reads its devices.
 */
export async function removeDevice(env: Env, db: Db, tenantId: string, id: string): Promise<void> {
  const device = await deleteDevice(db, tenantId, id)
  if (!device) throw notFound('device')
  try {
    await cancelDeletedDevice(env, device)
  } catch (error) {
    logError('tasks.not_told', { device: id, ...errorFields(error) })
  }
  await endSessions(env, device)
}
