import { z } from '@hono/zod-openapi'
import { iso } from '../common/time.ts'
import type { auditEntries } from '../db/schema.ts'
import { listQuery, text } from '../http/openapi.ts'

export type AuditEntry = typeof auditEntries.$inferSelect

const time = z.iso
  .datetime({ offset: true, error: 'must be a time as ISO 8601, such as 2026-01-31T12:00:00Z' })
  .transform((value) => Date.parse(value))

export const auditQuery = listQuery.extend({
  action: text(64).optional().openapi({ example: 'task.pause' }),
  target: text(64).optional().openapi({ description: 'The id of what was changed' }),
  keyId: text(320)
    .optional()
    .openapi({ description: "The key's id, or `access:` and a person's email address" }),
  from: time.optional().openapi({ type: 'string', format: 'date-time', description: 'Not before' }),
  to: time.optional().openapi({ type: 'string', format: 'date-time', description: 'Before' }),
})

/** Times in ms since 1970: `from` is included, `to` is not. */
export type AuditFilter = Omit<z.infer<typeof auditQuery>, 'limit' | 'cursor'>

export const auditAnswer = z
  .object({
    id: z.string(),
    at: z.string(),
    keyId: z.string(),
    keyName: z.string(),
    role: z.string(),
    action: z.string(),
    target: z.string().nullable(),
    address: z.string().nullable(),
    detail: z
      .record(z.string(), z.unknown())
      .nullable()
      .openapi({ description: 'What was asked for, shortened and without secrets' }),
  })
  .openapi('AuditEntry')

export const toAuditAnswer = ({ tenantId: _, at, ...entry }: AuditEntry): z.infer<typeof auditAnswer> => ({
  ...entry,
  at: iso(at),
})
