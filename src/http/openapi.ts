import { OpenAPIHono, z } from '@hono/zod-openapi'
import type { ZodError, ZodType } from 'zod'
import { type FieldError, invalid } from '../common/errors.ts'
import type { AppEnv } from './principal.ts'

const MAX_FIELD_ERRORS = 20
const MAX_KEY_LENGTH = 64
const UNKNOWN = 'is not a known field'
const MAX_PAGE = 200
const DEFAULT_PAGE = 50
const MAX_CURSOR_LENGTH = 512

/** A router that turns an invalid request into a 422 with a message per field. Every `routes.ts` has its own. */
export const createRouter = () =>
  new OpenAPIHono<AppEnv>({
    defaultHook: (result) => {
      if (!result.success) throw invalid(fieldErrors(result.error))
    },
  })

/** zod's issues in the API's form; `path` is dotted, empty for the body as a whole. */
export const fieldErrors = (error: ZodError): FieldError[] =>
  error.issues
    .flatMap((issue) =>
      issue.code === 'unrecognized_keys'
        ? issue.keys.map((key) => ({ path: [...issue.path, key.slice(0, MAX_KEY_LENGTH)], message: UNKNOWN }))
        : [issue],
    )
    .slice(0, MAX_FIELD_ERRORS)
    .map(({ path, message }) => ({ path: path.map(String).join('.'), message }))

// ---- Fields ---------------------------------------------------------------------------------------------

/** At most `max` characters (code points), as devices' messages count too. */
const isAtMost = (max: number) => (text: string) => text.length <= max || Array.from(text).length <= max
const tooLong = (max: number) => `must be at most ${max} characters`

/** Text of at most `max` characters; the 422 says the limit. Empty is fine. */
export const text = (max: number) =>
  z.string().refine(isAtMost(max), tooLong(max)).openapi({ maxLength: max })

/** The class Cc of Unicode, spelt out: a `pattern` in the document has no flags. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: that is what it is for
const NO_CONTROL = /^[^\u0000-\u001F\u007F-\u009F]*$/

/** Trimmed text of 1 to `max` characters without control characters: names, numbers, tags, versions. */
export const label = (max: number) =>
  z
    .string()
    .trim()
    .min(1, 'must not be empty')
    .refine(isAtMost(max), tooLong(max))
    .regex(NO_CONTROL, 'must not contain control characters')
    .openapi({ maxLength: max })

export const name = label(128)
export const description = text(1024)
export const version = label(64)
export const moduleName = label(64)
/** A bridge's name. */
export const bridgeName = z
  .string()
  .regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1 to 64 characters of A-Z a-z 0-9 _ -')

/** An id in a body or a query. Its form is not checked: it is looked up. */
export const idText = text(64)
/** A path's `{id}`. Its form is not checked: it is looked up, so that a misspelt one is a 404. */
export const idParam = z.object({ id: z.string() })

// ---- Lists ----------------------------------------------------------------------------------------------

/** `?limit=&cursor=` of every list (src/http/README.md#lists); extend it with the list's own filters. */
export const listQuery = z.object({
  limit: z.coerce.number().int().min(1).max(MAX_PAGE).default(DEFAULT_PAGE),
  cursor: text(MAX_CURSOR_LENGTH).optional(),
})

export const listOf = <T extends ZodType>(item: T) =>
  z.object({ items: z.array(item), nextCursor: z.string().nullable() })

/**
 * One page from `limit + 1` rows in the order of their cursor, which `cursorOf` returns: the extra row shows that there
 * is a next page.
 */
export function page<T>(rows: T[], limit: number, cursorOf: (row: T) => string) {
  const items = rows.slice(0, limit)
  const last = items.at(-1)
  return { items, nextCursor: rows.length > limit && last !== undefined ? cursorOf(last) : null }
}

// ---- Requests and answers -------------------------------------------------------------------------------

/** A required JSON body. */
export const jsonBody = <T extends ZodType>(schema: T) => ({
  required: true as const,
  content: { 'application/json': { schema } },
})

/** A JSON answer, for `responses`. */
export const json = <T extends ZodType>(schema: T, text: string) => ({
  description: text,
  content: { 'application/json': { schema } },
})

export const problem = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.number().int(),
    detail: z.string(),
    code: z.string().openapi({ example: 'device.not_found' }),
    errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
  })
  .openapi('Problem')

/** Spread into every route's `responses`: all errors have one shape (src/http/README.md#errors). */
export const problems = {
  '4XX': {
    description: 'What is wrong with the request',
    content: { 'application/problem+json': { schema: problem } },
  },
  503: {
    description: 'Not done, or not wholly: the same request again, after `Retry-After` seconds',
    content: { 'application/problem+json': { schema: problem } },
  },
} as const

/** The `security` of routes that take an API key. */
export const withKey = [{ key: [] }]
