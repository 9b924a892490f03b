import { createRoute, z } from '@hono/zod-openapi'
import { requireRole, tenantOf } from '../auth/middleware.ts'
import { iso } from '../common/time.ts'
import { createRouter, json, problems, withKey } from '../http/openapi.ts'
import { hubStub } from '../hub/hub.ts'
import { listBridges } from '../hub/store.ts'
import { inEnglish, toReason } from '../reasons/reason.ts'

const bridgeAnswer = z
  .object({
    name: z.string(),
    scope: z.enum(['tenant', 'installation']),
    connected: z.boolean(),
    standbys: z.number().int().openapi({ description: 'Bridges of the same name that wait to take over' }),
    upTo: z
      .string()
      .nullable()
      .openapi({ description: 'Everything that the bridge was given before then has arrived' }),
    credit: z.number().int().openapi({ description: 'Notices that it would take now' }),
    rejected: z
      .record(z.string(), z.number().int())
      .openapi({ description: 'Rejected items by reason; null for a bridge that serves several tenants' })
      .nullable(),
  })
  .openapi('Bridge')

/** The bridges that serve the tenant's products, as their hubs see them. */
export const hubRoutes = createRouter().openapi(
  createRoute({
    tags: ['bridge'],
    security: withKey,
    middleware: requireRole('viewer'),
    method: 'get',
    path: '/api/v1/bridges',
    responses: {
      200: json(z.object({ items: z.array(bridgeAnswer), nextCursor: z.null() }), 'All bridges'),
      ...problems,
    },
  }),
  async (c) => {
    const hubs = await listBridges(c.env.DB, tenantOf(c))
    const items = await Promise.all(
      hubs.map(async ({ hub, name, isOwn }) => {
        const { connected, standbys, upTo, credit, rejected } = await hubStub(c.env, hub).status()
        return {
          name,
          scope: isOwn ? ('tenant' as const) : ('installation' as const),
          connected,
          standbys,
          upTo: upTo === 0 ? null : iso(upTo),
          credit,
          // Figures of a shared bridge would tell of other tenants' devices.
          rejected: isOwn ? inTexts(rejected) : null,
        }
      }),
    )
    return c.json({ items, nextCursor: null }, 200)
  },
)

/** By the reasons' English; the hub counts by code, and an earlier release counted by text. */
function inTexts(counts: Record<string, number>): Record<string, number> {
  const byText: Record<string, number> = {}
  for (const [code, count] of Object.entries(counts)) {
    const text = inEnglish(toReason(code))
    byText[text] = (byText[text] ?? 0) + count
  }
  return byText
}
