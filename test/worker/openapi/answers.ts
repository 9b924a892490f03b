import { z } from 'zod'
import type { Operation, Schema } from './document.ts'

export interface RawAnswer {
  status: number
  type: string
  text: string
}

const checks = new WeakMap<Schema, z.ZodType>()

/** What is wrong with an answer by the operation's own description; null if it is described. No 5xx is ever right here. */
export function faultOf({ answers }: Operation, { status, type, text }: RawAnswer): string | null {
  if (status >= 500) return 'a fault of the server'
  const described = answers.get(String(status)) ?? answers.get(`${Math.floor(status / 100)}XX`)
  if (!described) return `status ${status} is not described`
  if (described.size === 0) return text === '' ? null : 'has a body that is not described'
  const schema = described.get(type)
  if (!schema) return `media type "${type}" is not described`
  if (!type.endsWith('json')) return null
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    return 'not JSON'
  }
  const { error } = checkOf(schema).safeParse(body)
  if (error) return z.prettifyError(error)
  return status >= 400 && (body as { status: number }).status !== status ? 'another status in its body' : null
}

function checkOf(schema: Schema): z.ZodType {
  const made =
    checks.get(schema) ?? z.fromJSONSchema(closed(schema) as Parameters<typeof z.fromJSONSchema>[0])
  checks.set(schema, made)
  return made
}

/** Knows only what is described: an answer may have no field more. */
function closed(schema: Schema): Schema {
  const { properties, items, anyOf, additionalProperties } = schema
  return {
    ...schema,
    ...(items && { items: closed(items) }),
    ...(anyOf && { anyOf: anyOf.map(closed) }),
    ...(properties && {
      properties: Object.fromEntries(
        Object.entries<Schema>(properties).map(([name, part]) => [name, closed(part)]),
      ),
      additionalProperties: additionalProperties ?? false,
    }),
  }
}
