import { z } from '@hono/zod-openapi'

/** What differs in a text: `params` of a reason or an event; a parameter may be a reason itself. */
export const params = z
  .record(z.string(), z.union([z.string(), z.number(), z.looseObject({ code: z.string() })]))
  .openapi({ example: { wave: 2, at: '2026-01-31T12:00:00.000Z' } })

/** A reason as data, beside each text that says one in English. */
export const reasonAnswer = z.object({ code: z.string(), params }).openapi('Reason')
