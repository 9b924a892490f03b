import { drizzle } from 'drizzle-orm/d1'
import * as schema from './schema.ts'

export type Db = ReturnType<typeof openDb>

/** Drizzle over D1. Several statements that belong together go in one `db.batch()`: D1 has no `BEGIN`. */
export const openDb = (d1: D1Database) => drizzle(d1, { schema, casing: 'snake_case' })
