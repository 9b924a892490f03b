import type { Env } from '../common/env.ts'
import type { Db } from '../db/client.ts'
import { hubOfProduct, hubStub } from '../hub/hub.ts'
import { mergeRejections, type RejectionBatch } from '../hub/rejections.ts'
import type { Device } from './device.ts'
import { findRejections } from './store.ts'

/** The device's rejected messages: those in D1, and those that its hub has not written there yet. */
export async function readRejections(
  env: Env,
  db: Db,
  device: Device,
): Promise<Pick<RejectionBatch, 'total' | 'items'>> {
  const written = (await findRejections(db, device.tenantId, device.id)) ?? { total: 0, items: [] }
  const hub = await hubOfProduct(env, device)
  const pending = hub === null ? null : await hubStub(env, hub).pendingRejections(device.id)
  if (!pending) return written
  return mergeRejections(pending, { ...written, deviceId: device.id, tenantId: device.tenantId })
}
