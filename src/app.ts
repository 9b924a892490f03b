import { z } from '@hono/zod-openapi'
import { bodyLimit } from 'hono/body-limit'
import { auditChanges } from './audit/middleware.ts'
import { auditRoutes } from './audit/routes.ts'
import { requireKey } from './auth/middleware.ts'
import { nameRoles } from './auth/route-roles.ts'
import { bridgeRoutes } from './bridges/batch-routes.ts'
import { brokerRoutes, denyOnFailure } from './bridges/broker-routes.ts'
import { hubRoutes } from './bridges/routes.ts'
import { tooLarge } from './common/errors.ts'
import { consoleRoutes } from './console/routes.ts'
import { steady } from './db/steady.ts'
import { deviceApiRoutes } from './device-api/routes.ts'
import { deviceHistoryRoutes } from './devices/history-routes.ts'
import { deviceImportRoutes } from './devices/import-routes.ts'
import { deviceRoutes } from './devices/routes.ts'
import { downloadRoutes } from './downloads/routes.ts'
import { type ApiDocument, docsRoutes } from './http/docs.tsx'
import { createRouter, json } from './http/openapi.ts'
import { onError, onNotFound } from './http/problem.ts'
import { refusePublishedSecrets } from './http/published-secrets.ts'
import { safeHeaders } from './http/safe-headers.ts'
import { idempotency, isJson } from './idempotency/middleware.ts'
import { keyRoutes } from './keys/routes.ts'
import { packageRoutes } from './packages/routes.ts'
import { productRoutes } from './products/routes.ts'
import { usageRoutes } from './retention/routes.ts'
import { signingKeyRoutes } from './signing/routes.ts'
import { previewRoutes } from './tasks/api/preview-routes.ts'
import { taskRoutes } from './tasks/api/routes.ts'
import { tenantRoutes } from './tenants/routes.ts'
import { webhookRoutes } from './webhooks/routes.ts'

/** JSON bodies of the operators' API; the largest is a task with 100,000 device numbers. */
const MAX_JSON_BYTES = 8 * 1024 * 1024

const DOCUMENT = {
  openapi: '3.1.0',
  info: {
    title: 'edge-ota',
    version: '1',
    description:
      'Firmware updates for device fleets. Errors are problem+json (RFC 9457) with a stable `code`.',
  },
}

export const app = createRouter()

app.onError(onError)
app.notFound(onNotFound)

app.use('*', (c, next) => {
  c.env = steady(c.env)
  return next()
})
app.use(safeHeaders)
app.use('/broker/*', denyOnFailure)
app.use(refusePublishedSecrets)
app.use('/api/*', requireKey)
app.use('/bridge/*', requireKey)
app.use('/broker/*', requireKey)

const limitJson = bodyLimit({
  maxSize: MAX_JSON_BYTES,
  onError: () => {
    throw tooLarge('request.too_large', `A JSON body may have at most ${MAX_JSON_BYTES} bytes.`)
  },
})
app.use('/api/*', (c, next) => (isJson(c.req.header('content-type') ?? '') ? limitJson(c, next) : next()))
app.use('/api/*', idempotency)
app.use('/api/v1/*', auditChanges)

app.route('/', tenantRoutes)
app.route('/', keyRoutes)
app.route('/', productRoutes)
app.route('/', signingKeyRoutes)
app.route('/', deviceImportRoutes)
app.route('/', deviceRoutes)
app.route('/', deviceHistoryRoutes)
app.route('/', packageRoutes)
app.route('/', previewRoutes)
app.route('/', taskRoutes)
app.route('/', webhookRoutes)
app.route('/', auditRoutes)
app.route('/', usageRoutes)
app.route('/', downloadRoutes)
app.route('/', hubRoutes)
app.route('/', bridgeRoutes)
app.route('/', brokerRoutes)
app.route('/', deviceApiRoutes)

for (const [name, scheme] of [
  ['key', 'bearer'],
  ['deviceToken', 'bearer'],
  ['deviceBasic', 'basic'],
] as const) {
  app.openAPIRegistry.registerComponent('securitySchemes', name, { type: 'http', scheme })
}
app.openapi(
  {
    method: 'get',
    path: '/healthz',
    tags: ['service'],
    responses: { 200: json(z.object({ status: z.literal('ok') }), 'The Worker answers') },
  },
  (c) => c.json({ status: 'ok' as const }, 200),
)
app.route(
  '/',
  docsRoutes(() => nameRoles(app.getOpenAPI31Document(DOCUMENT) as ApiDocument, app.routes)),
)
// Last: every other path is a page of the console.
app.route('/', consoleRoutes)
