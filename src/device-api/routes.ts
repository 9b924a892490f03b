import { randomUUID } from 'node:crypto'
import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { tooLarge } from '../common/errors.ts'
import { createRouter, json, problems } from '../http/openapi.ts'
import type { AppEnv } from '../http/principal.ts'
import { limitAddress, limitDevice } from '../http/rate-limit.ts'
import type { Sender } from '../messages/identify.ts'
import { buildNothingDue, MAX_PAYLOAD_BYTES, type UplinkKind } from '../protocol/device.ts'
import { authenticateDevice } from './authenticate.ts'
import { dueNotice, receiveFromDevice } from './device-api.ts'

const MAX_DRAINED_BYTES = 1024 * 1024

const limitBody = bodyLimit({
  maxSize: MAX_PAYLOAD_BYTES,
  onError: async (c) => {
    // Who sends a little too much hears so: an answer before the body's end may be lost with the connection.
    if (Number(c.req.header('content-length')) <= MAX_DRAINED_BYTES) await c.req.raw.arrayBuffer()
    throw tooLarge('message.too_large', 'A message may have at most 64 KiB.')
  },
})

const security: Record<string, string[]>[] = [{ deviceToken: [] }, { deviceBasic: [] }]
const base = { tags: ['device'], security }

const upgradeAnswer = z
  .object({
    id: z.string(),
    code: z.literal(200),
    params: z.union([
      z.object({
        version: z.string(),
        size: z.number().int(),
        url: z.string(),
        signMethod: z.enum(['SHA256', 'MD5']),
        sign: z.string(),
        module: z.string().optional(),
        isDiff: z.literal(1).optional(),
        extData: z.record(z.string(), z.unknown()).optional(),
        digestsign: z.string().optional(),
        signKeyId: z.string().optional(),
        signCounter: z.number().int().optional(),
      }),
      z.strictObject({}),
    ]),
  })
  .openapi('Notice')

const message = z.object({ code: z.literal(200) })
const id = { type: ['string' as const, 'integer' as const] }
const words = (names: string[]) =>
  Object.fromEntries(names.map((name) => [name, { type: 'string' as const }]))
const object = (properties: object) => ({ type: 'object' as const, properties: { ...properties } })

/** Described but not validated: a device's message is read leniently, and kept if it cannot be read. */
const body = (schema: ReturnType<typeof object>) => ({
  request: { body: { content: { 'application/json': { schema } } } },
})
const report = body(object({ id, params: object(words(['version', 'module'])) }))
const progress = body(
  object({ step: { type: ['string' as const, 'integer' as const] }, ...words(['desc', 'module']) }),
)

const taken = { responses: { 200: json(message, 'The message was taken'), ...problems } }

async function identified(c: Context<AppEnv>): Promise<Sender> {
  await limitAddress(c)
  const address = c.req.header('cf-connecting-ip') ?? 'local'
  const sender = await authenticateDevice(c.env, c.req.header('authorization'), address)
  await limitDevice(c, sender.id)
  return sender
}

async function receive(c: Context<AppEnv>, kind: UplinkKind) {
  const sender = await identified(c)
  const payload = new Uint8Array(await c.req.arrayBuffer())
  await receiveFromDevice(c.env, sender, kind, payload, randomUUID(), Date.now())
  return c.json({ code: 200 as const }, 200)
}

/** The device API (src/protocol/README.md#messages): what the topics carry, for devices that speak HTTPS. */
export const deviceApiRoutes = createRouter()
  .openapi(
    createRoute({
      ...base,
      method: 'get',
      path: '/device/v1/upgrade',
      request: {
        query: z.object({ module: z.string().max(64).optional(), id: z.string().max(64).optional() }),
      },
      responses: { 200: json(upgradeAnswer, 'The notice that is due, or no parameters'), ...problems },
    }),
    async (c) => {
      const sender = await identified(c)
      const { module, id } = c.req.valid('query')
      // Hono answers HEAD as it answers GET. It hands nothing out, and a notice has no length to tell before it is made.
      if (c.req.method === 'HEAD') return c.json(buildNothingDue(id ?? ''), 200)
      return c.json(await dueNotice(c.env, sender, module?.trim() || null, id ?? ''), 200)
    },
  )
  .openapi(
    createRoute({
      ...base,
      ...taken,
      ...report,
      middleware: limitBody,
      method: 'post',
      path: '/device/v1/inform',
    }),
    (c) => receive(c, 'inform'),
  )
  .openapi(
    createRoute({
      ...base,
      ...taken,
      ...progress,
      middleware: limitBody,
      method: 'post',
      path: '/device/v1/progress',
    }),
    (c) => receive(c, 'progress'),
  )
