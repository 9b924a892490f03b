import type { Env } from '../common/env.ts'

const DAY_MS = 24 * 3_600_000
const DEFAULT_DAYS = 400
const GB = 1_000_000_000
/** Of a D1 database on the paid plan, and of an object. */
const DEFAULT_LIMIT_GB = 10

/** Before this time (ms) rows are old; null if they are kept for ever. A setting that is no number counts as the default. */
export function oldBefore(setting: string | undefined, now: number): number | null {
  const days = Number(setting?.trim() || DEFAULT_DAYS)
  const valid = Number.isFinite(days) && days >= 0 ? days : DEFAULT_DAYS
  return valid === 0 ? null : now - valid * DAY_MS
}

/** How much the database may hold, in bytes. */
export function databaseLimit(env: Env): number {
  const limit = Number(env.DATABASE_LIMIT_GB)
  return (Number.isFinite(limit) && limit > 0 ? limit : DEFAULT_LIMIT_GB) * GB
}

export const OBJECT_LIMIT = DEFAULT_LIMIT_GB * GB
