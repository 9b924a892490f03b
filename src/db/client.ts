import { drizzle } from 'drizzle-orm/d1'
import * as schema from './schema.ts'

export type Db = ReturnType<typeof drizzleOver>

const drizzleOver = (d1: D1Database) => drizzle(d1, { schema, casing: 'snake_case' })

/** Drizzle takes milliseconds to read the schema, so each binding is opened once. */
const opened = new WeakMap<D1Database, Db>()

/** Drizzle over D1. Several statements that belong together go in one `db.batch()`: D1 has no `BEGIN`. */
export function openDb(d1: D1Database): Db {
  const known = opened.get(d1)
  if (known) return known
  const db = drizzleOver(d1)
  opened.set(d1, db)
  return db
}
