import { createRoute } from '@hono/zod-openapi'
import { bodyLimit } from 'hono/body-limit'
import { requireRole } from '../auth/middleware.ts'
import { badRequest, forbidden, tooLarge } from '../common/errors.ts'
import { createRouter, json, jsonBody, problem, problems, withKey } from '../http/openapi.ts'
import { requireWebSocket } from '../http/web-socket.ts'
import { hubName, hubStub } from '../hub/hub.ts'
import { socketRequest } from '../hub/socket.ts'
import { batchAnswer, batchEnvelope, MAX_BATCH_BYTES } from '../protocol/bridge.ts'
import { receiveBatch } from './receive-batch.ts'

const base = { tags: ['bridge'], security: withKey }

const limitBatch = bodyLimit({
  maxSize: MAX_BATCH_BYTES,
  onError: () => {
    throw tooLarge('batch.too_large', `A batch may have at most ${MAX_BATCH_BYTES} bytes.`)
  },
})

export const bridgeRoutes = createRouter()
  .openapi(
    createRoute({
      ...base,
      method: 'post',
      path: '/bridge/v1/messages',
      middleware: [requireRole('bridge'), limitBatch] as const,
      request: { body: jsonBody(batchEnvelope) },
      responses: { 200: json(batchAnswer, 'What became of each item'), ...problems },
    }),
    async (c) => {
      const { bridge, ...batch } = c.req.valid('json')
      const { principal } = c.var
      if (bridge !== principal.bridge) throw forbidden('This key names another bridge.')
      const hub = hubName(principal.tenantId, bridge)
      return c.json(await receiveBatch(c.env, hub, batch, Date.now()), 200)
    },
  )
  .openapi(
    createRoute({
      ...base,
      method: 'get',
      path: '/bridge/v1/socket',
      middleware: requireRole('bridge'),
      responses: {
        101: { description: 'The WebSocket: notices down, credit up' },
        426: { description: 'Not a WebSocket', content: { 'application/problem+json': { schema: problem } } },
        ...problems,
      },
    }),
    async (c) => {
      requireWebSocket(c)
      const { keyId, tenantId, bridge } = c.var.principal
      if (bridge === null) throw badRequest('bridge.unnamed', 'The key names no bridge.')
      return (await hubStub(c.env, hubName(tenantId, bridge)).fetch(socketRequest(keyId))) as never
    },
  )
