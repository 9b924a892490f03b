import { createRoute, z } from '@hono/zod-openapi'
import { requireRole, tenantOf } from '../auth/middleware.ts'
import { AppError, notFound } from '../common/errors.ts'
import { openDb } from '../db/client.ts'
import { createRouter, idText, json, problems, withKey } from '../http/openapi.ts'
import { findProduct } from '../products/store.ts'
import { newcomerNotifier } from '../tasks/api/tell-tasks.ts'
import { importDevices, MAX_IMPORT_ROWS, MAX_LISTED_REJECTIONS } from './import-devices.ts'

const importAnswer = z
  .object({
    created: z.number().int(),
    updated: z.number().int().openapi({ description: 'Includes rows that changed nothing' }),
    rejected: z.array(z.object({ line: z.number().int(), reason: z.string() })),
    rejectedCount: z.number().int(),
    ignoredColumns: z.array(z.string()).openapi({ description: 'Columns or keys that mean nothing here' }),
  })
  .openapi('ImportResult')

export const deviceImportRoutes = createRouter().openapi(
  createRoute({
    method: 'post',
    path: '/api/v1/devices/import',
    tags: ['devices'],
    security: withKey,
    middleware: requireRole('operator'),
    description:
      'A CSV with a header (`number`, `name`, `access_token`, `tags`, in any order, separated by commas, semicolons or tabs; ' +
      'tags are separated by `;` or `|`), UTF-8 or UTF-16, ' +
      'or one JSON object a line (`number`, `name`, `accessToken`, `tags`) as `application/x-ndjson`. A row whose ' +
      'number the product has updates that device in the fields that the row has; an empty cell clears a name or the tags. ' +
      `At most ${MAX_IMPORT_ROWS} rows and lines of 64 KiB; at most ${MAX_LISTED_REJECTIONS} rejected rows are ` +
      'listed. A new token has at least 16 characters. A changed token is valid at once; open sessions of the old one end within a minute, if the broker can end them.',
    request: {
      query: z.object({
        productId: idText,
        trial: z
          .enum(['true', 'false'])
          .default('false')
          .openapi({ description: '`true`: changes nothing, and returns what would become of the rows' }),
      }),
      body: {
        content: {
          'text/csv': { schema: { type: 'string' } },
          'application/x-ndjson': { schema: { type: 'string' } },
        },
      },
    },
    responses: { 200: json(importAnswer, 'What became of the rows'), ...problems },
  }),
  async (c) => {
    const { productId, trial } = c.req.valid('query')
    const format = formatOf(c.req.header('content-type') ?? '')
    if (!/^(identity)?$/i.test(c.req.header('content-encoding') ?? '')) throw mediaTypeError()
    const product = await findProduct(openDb(c.env.DB), tenantOf(c), productId)
    if (!product) throw notFound('product')
    const body = c.req.raw.body ?? new Blob([]).stream()
    const tellChanged = trial === 'true' ? null : await newcomerNotifier(c.env, product.id)
    return c.json(await importDevices(c.env.DB, product, body, format, Date.now(), tellChanged), 200)
  },
)

/** CSV unless the type says otherwise, since clients that stream a file often send a generic type or none. */
function formatOf(contentType: string): 'csv' | 'ndjson' {
  if (/^application\/(x-ndjson|ndjson|jsonl|x-jsonlines)\b/i.test(contentType)) return 'ndjson'
  // `curl -d` sends the form's type, and drops line ends.
  if (/^(application\/json|multipart\/|application\/x-www-form-urlencoded)/i.test(contentType)) {
    throw mediaTypeError()
  }
  return 'csv'
}

const mediaTypeError = () =>
  new AppError(
    415,
    'request.media_type',
    "Send the file itself as text/csv or application/x-ndjson: curl -H 'Content-Type: text/csv' --data-binary @devices.csv URL",
  )
