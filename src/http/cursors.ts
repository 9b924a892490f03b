import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'
import type { Context } from 'hono'
import { invalid } from '../common/errors.ts'
import { page } from './openapi.ts'
import type { AppEnv } from './principal.ts'

/** Parameters that decide which list it is and in what order; other filters only leave out items. */
const PARAMETERS = ['sort', 'tenantId']
/** 72 bits, for mistakes: who makes up a cursor gets no more than its key may see. */
const CHECK_LENGTH = 12

/**
 * The place in the list that a request's `cursor` stands for; undefined for the first page. Throws a 422 for a cursor that
 * is not of this list, order and tenant, or not whole: as the first page it would send a client round for ever.
 */
export function placeOf(c: Context<AppEnv>, cursor: string | undefined): string | undefined {
  if (cursor === undefined) return undefined
  const place = Buffer.from(cursor.slice(CHECK_LENGTH), 'base64url').toString()
  if (cursorTo(c, place) !== cursor) {
    throw invalid([{ path: 'cursor', message: 'must be the nextCursor of this list, with the same order' }])
  }
  return place
}

/** The cursor that stands for a place in the list that the request is about; null if there is no next page. */
export function cursorTo(c: Context<AppEnv>, place: string): string
export function cursorTo(c: Context<AppEnv>, place: string | null): string | null
export function cursorTo(c: Context<AppEnv>, place: string | null): string | null {
  if (place === null) return null
  const list = [c.req.path, c.var.principal.tenantId, ...PARAMETERS.map((name) => c.req.query(name))]
  const check = createHash('sha256')
    .update(JSON.stringify([...list, place]))
    .digest('base64url')
  return check.slice(0, CHECK_LENGTH) + Buffer.from(place).toString('base64url')
}

/** `page` for an answer of the API: with an opaque cursor that `placeOf` knows. */
export function listPage<T>(c: Context<AppEnv>, rows: T[], limit: number, placeAfter: (row: T) => string) {
  const { items, nextCursor } = page(rows, limit, placeAfter)
  return { items, nextCursor: cursorTo(c, nextCursor) }
}
