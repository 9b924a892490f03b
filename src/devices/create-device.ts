import type { z } from 'zod'
import { conflict, notFound } from '../common/errors.ts'
import type { Db } from '../db/client.ts'
import { findProduct } from '../products/store.ts'
import { hashPassword } from '../protocol/passwords.ts'
import { type Device, newAccessToken, type newDeviceBody } from './device.ts'
import { findDevice, findDeviceByNumber, insertDevice, isTopicTaken, replaceToken } from './store.ts'

/**
 * Writes a new device; it gets a random token unless the body has a token or credentials. 404 `product.not_found`,
 * 409 if the number, its topic on a shared bridge, the token or the username is taken.
 */
export async function createDevice(
  db: Db,
  { id, tenantId }: { id: string; tenantId: string },
  body: z.output<typeof newDeviceBody>,
): Promise<Device> {
  const { productId, number, name = null, tags, credentials } = body
  const device: Device = {
    id,
    tenantId,
    productId,
    number,
    name,
    accessToken: credentials?.username ?? body.accessToken ?? newAccessToken(),
    passwordHash: credentials ? await hashPassword(credentials.password) : null,
    tags,
    enabled: true,
    topicFamily: null,
    online: null,
    lastSeenAt: null,
    createdAt: Date.now(),
  }
  if (await insertDevice(db, device)) return device
  // A repeat: nobody ever saw the token that the device was made with.
  const before = await findDevice(db, tenantId, id)
  if (before && !credentials) await replaceToken(db, before, device.accessToken)
  if (before) return { ...before, accessToken: device.accessToken, passwordHash: device.passwordHash }
  if (!(await findProduct(db, tenantId, productId))) throw notFound('product')
  if (await findDeviceByNumber(db, tenantId, productId, number)) throw numberTaken()
  if (await isTopicTaken(db, productId, number)) throw topicTaken()
  throw conflict('device.credential_taken', 'Another device has this token or username.')
}

export const numberTaken = () =>
  conflict('device.number_taken', 'Another device of the product has this number.')

export const topicTaken = () =>
  conflict('device.topic_taken', 'Another device of the shared bridge has this number as its topic.')
