import { z } from 'zod'

/** A notice exactly as in src/protocol/README.md#messages: an extra field or another type is a fault of the server. */
const notice = z.strictObject({
  id: z.string().regex(/^\d{10}$/),
  code: z.literal(200),
  params: z.strictObject({
    version: z.string().min(1),
    size: z.int().nonnegative(),
    url: z.url({ protocol: /^https?$/ }),
    signMethod: z.enum(['MD5', 'SHA256']),
    sign: z.string().regex(/^([0-9a-f]{32}|[0-9a-f]{64})$/),
    module: z.string().min(1).optional(),
    isDiff: z.literal(1).optional(),
    extData: z.record(z.string(), z.unknown()).optional(),
    digestsign: z
      .string()
      .regex(/^[A-Za-z0-9+/]{86}==$/)
      .optional(),
    signKeyId: z
      .string()
      .regex(/^sgk_\w+$/)
      .optional(),
    signCounter: z.int().positive().optional(),
  }),
})

export type ReceivedNotice = z.infer<typeof notice>

const nothingDue = z.strictObject({ id: z.string(), code: z.literal(200), params: z.strictObject({}) })

/** Reads a message of the downlink topic; undefined if the protocol does not know it. */
export function readNotice(payload: Buffer): ReceivedNotice | 'nothing due' | undefined {
  let message: unknown
  try {
    message = JSON.parse(payload.toString())
  } catch {
    return undefined
  }
  if (nothingDue.safeParse(message).success) return 'nothing due'
  return notice.safeParse(message).data
}
