import { z } from '@hono/zod-openapi'
import { randomText } from '../auth/key.ts'
import { iso } from '../common/time.ts'
import type { deviceModules, devices } from '../db/schema.ts'
import { idText, label, name, text } from '../http/openapi.ts'
import { TOPIC_NAME } from '../protocol/device.ts'

export type Device = typeof devices.$inferSelect
export type DeviceModule = Pick<
  typeof deviceModules.$inferSelect,
  'deviceId' | 'module' | 'version' | 'reportedAt' | 'rolledBack'
> & {
  /** Does it run this version for certain (src/protocol/README.md#certainty)? */
  certain: boolean
  /** The version that it took by 100 % and has not reported. */
  assumed: string | null
}

const MAX_TAGS = 20
const TOKEN_BYTES = 24

export const newAccessToken = () => randomText(TOKEN_BYTES)

export const number = label(64)
export const topicName = z.string().regex(TOPIC_NAME, 'must be 1 to 64 characters of A-Z a-z 0-9 _ -')
/** A token that an operator chooses: long enough not to be guessed. Shorter ones of earlier releases stay. */
const CHOSEN_TOKEN = /^[A-Za-z0-9_-]{16,64}$/
export const TOKEN_FAULT = 'must be 16 to 64 characters of A-Z a-z 0-9 _ -'
export const isLongEnough = (token: string) => CHOSEN_TOKEN.test(token)
export const tags = z
  .array(label(64))
  .max(MAX_TAGS, `must be at most ${MAX_TAGS}`)
  .transform((list) => [...new Set(list)])

const credentials = z.strictObject({
  username: topicName,
  password: text(128).min(1, 'must not be empty'),
})

export const newDeviceBody = z
  .strictObject({
    productId: idText,
    number,
    name: name.nullable().optional(),
    accessToken: z.string().regex(CHOSEN_TOKEN, TOKEN_FAULT).optional(),
    credentials: credentials.optional(),
    tags: tags.default([]),
  })
  .refine((body) => !(body.accessToken !== undefined && body.credentials !== undefined), {
    path: ['credentials'],
    message: 'a device has either an accessToken or credentials',
  })

export const deviceChangesBody = z
  .strictObject({ enabled: z.boolean(), name: name.nullable(), tags, productId: idText })
  .partial()
export type DeviceChanges = z.infer<typeof deviceChangesBody>

const moduleAnswer = z.object({
  module: z.string(),
  version: z.string(),
  reportedAt: z.string(),
  certain: z.boolean().openapi({ description: 'False: it may run another version until it reports' }),
  assumed: z.string().nullable().openapi({ description: 'Taken by 100 %, not reported yet' }),
  rolledBack: z.string().optional().openapi({ description: 'Reported 100 %, then another version' }),
})

/** A device in a list, without its credential. */
export const deviceItem = z
  .object({
    id: z.string(),
    productId: z.string(),
    number: z.string(),
    name: z.string().nullable(),
    tags: z.array(z.string()),
    enabled: z.boolean(),
    modules: z.array(moduleAnswer),
    lastSeenAt: z.string().nullable(),
    online: z.boolean().nullable().openapi({ description: 'Null if the broker cannot tell' }),
    createdAt: z.string(),
  })
  .openapi('DeviceItem')

/** A device with its token, or with the username of its Basic credentials; both are for operators and admins only. */
export const deviceAnswer = deviceItem
  .extend({ accessToken: z.string().optional(), username: z.string().optional() })
  .openapi('Device')

export const toDeviceItem = (device: Device, modules: DeviceModule[]) => ({
  id: device.id,
  productId: device.productId,
  number: device.number,
  name: device.name,
  tags: device.tags,
  enabled: device.enabled,
  modules: modules.map(({ module, version, reportedAt, certain, assumed, rolledBack }) => ({
    module,
    version,
    reportedAt: iso(reportedAt),
    certain,
    assumed,
    ...(rolledBack !== null && { rolledBack }),
  })),
  lastSeenAt: iso(device.lastSeenAt),
  online: device.online,
  createdAt: iso(device.createdAt),
})

export const toDeviceAnswer = (device: Device, modules: DeviceModule[], withToken: boolean) => ({
  ...toDeviceItem(device, modules),
  ...(withToken && credentialOf(device)),
})

const credentialOf = ({ passwordHash, accessToken }: Device) =>
  passwordHash === null ? { accessToken } : { username: accessToken }
