import type { Env } from '../../src/common/env.ts'

// Counts what Cloudflare bills: every statement, object call and R2 operation of this isolate. For measuring only, since
// it wraps the platform's own methods.

/** The billed quantities. */
export interface Counters {
  workerRequests: number
  /** RPC calls, requests and alarms. */
  objectRequests: number
  /** Messages from clients to objects; 20 are billed as one request. */
  webSocketMessages: number
  /** Time in which an object works or waits, in ms. */
  objectMs: number
  objectRowsWritten: number
  objectRowsRead: number
  d1RowsWritten: number
  d1RowsRead: number
  d1Queries: number
  r2ClassA: number
  r2ClassB: number
  /** Rows that objects and D1 wrote, by statement. */
  written: Record<string, number>
}

const zero = (): Counters => ({
  workerRequests: 0,
  objectRequests: 0,
  webSocketMessages: 0,
  objectMs: 0,
  objectRowsWritten: 0,
  objectRowsRead: 0,
  d1RowsWritten: 0,
  d1RowsRead: 0,
  d1Queries: 0,
  r2ClassA: 0,
  r2ClassB: 0,
  written: {},
})

export const counters = zero()

/** A copy of the figures; an open cursor counts with what it has read so far. */
export function readCounters(): Counters {
  for (const open of cursors.splice(0)) settle(open)
  return structuredClone(counters)
}

export function resetCounters(): void {
  readCounters()
  Object.assign(counters, zero())
}

const names = new Map<string, string>()

/** A short name for a statement: its beginning. */
function nameOf(statement: string): string {
  const known = names.get(statement)
  if (known !== undefined) return known
  const name = statement.trim().replace(/\s+/g, ' ').slice(0, 48)
  names.set(statement, name)
  return name
}

function noteWritten(statement: string, rows: number): void {
  if (rows === 0) return
  const name = nameOf(statement)
  counters.written[name] = (counters.written[name] ?? 0) + rows
}

// ---- The objects' storage -------------------------------------------------------------------------------

type Cursor = SqlStorageCursor<Record<string, SqlStorageValue>>

interface Open {
  statement: string
  cursor: Cursor
}

/** Cursors that are not counted yet: a cursor knows its rows only after it was read. */
const cursors: Open[] = []
const MOST_CURSORS = 100

function settle({ statement, cursor }: Open): void {
  counters.objectRowsRead += cursor.rowsRead
  counters.objectRowsWritten += cursor.rowsWritten
  noteWritten(statement, cursor.rowsWritten)
}

const metered = new WeakSet<object>()

/** `setAlarm` and each put or delete of a key are billed as one row written (Durable Objects, Pricing). */
export function meterStorage({ storage }: DurableObjectState): void {
  const sql = Object.getPrototypeOf(storage.sql)
  const kv = Object.getPrototypeOf(storage.kv)
  const whole = Object.getPrototypeOf(storage)
  if (metered.has(sql)) return
  metered.add(sql)
  const { exec } = sql
  sql.exec = function (this: SqlStorage, statement: string, ...bindings: unknown[]) {
    const cursor = exec.call(this, statement, ...bindings) as Cursor
    cursors.push({ statement, cursor })
    if (cursors.length > MOST_CURSORS) settle(cursors.shift()!)
    return cursor
  }
  for (const [target, method] of [
    [kv, 'put'],
    [kv, 'delete'],
    [whole, 'setAlarm'],
  ] as const) {
    const original = target[method]
    target[method] = function (this: unknown, ...args: unknown[]) {
      counters.objectRowsWritten++
      noteWritten(method, 1)
      return original.apply(this, args)
    }
  }
}

// ---- D1 -------------------------------------------------------------------------------------------------

interface Meta {
  rows_read?: number
  rows_written?: number
}

function noteMeta(statement: string, meta: Meta | undefined): void {
  counters.d1Queries++
  counters.d1RowsRead += meta?.rows_read ?? 0
  counters.d1RowsWritten += meta?.rows_written ?? 0
  noteWritten(statement, meta?.rows_written ?? 0)
}

/** Counts all D1 databases of this isolate from now on. */
export function meterD1(db: D1Database): void {
  const database = Object.getPrototypeOf(db)
  const statement = Object.getPrototypeOf(db.prepare('SELECT 1'))
  if (metered.has(database)) return
  metered.add(database)
  const { batch } = database
  database.batch = async function (this: D1Database, statements: { statement: string }[]) {
    const results = (await batch.call(this, statements)) as D1Result[]
    results.forEach((result, index) => {
      noteMeta(statements[index]!.statement, result.meta as Meta)
    })
    return results
  }
  // Results of `first` and `raw` have no figures: only the queries are counted.
  for (const method of ['all', 'run', 'first', 'raw']) {
    const original = statement[method]
    statement[method] = async function (this: { statement: string }, ...args: unknown[]) {
      const result = await original.apply(this, args)
      noteMeta(this.statement, (result as D1Result | null)?.meta as Meta | undefined)
      return result
    }
  }
}

// ---- Objects, R2 ----------------------------------------------------------------------------------------

const underWay = new WeakMap<object, { calls: number; since: number }>()

/** Counts the time of a call in an object, waiting included; overlapping calls count once. */
export function duringCall<T>(object: object, work: () => T): T {
  const state = underWay.get(object) ?? { calls: 0, since: 0 }
  underWay.set(object, state)
  if (state.calls++ === 0) state.since = Date.now()
  const end = () => {
    if (--state.calls === 0) counters.objectMs += Date.now() - state.since
  }
  let isAwaited = false
  try {
    const result = work()
    if (!(result instanceof Promise)) return result
    isAwaited = true
    return result.finally(end) as T
  } finally {
    if (!isAwaited) end()
  }
}

const CLASS_A = new Set(['put', 'list', 'createMultipartUpload', 'resumeMultipartUpload'])
const FREE = new Set(['delete'])

function meterBucket(bucket: R2Bucket): R2Bucket {
  return new Proxy(bucket, {
    get(target, name) {
      const value = Reflect.get(target, name)
      if (typeof value !== 'function') return value
      return (...args: unknown[]) => {
        if (CLASS_A.has(String(name))) counters.r2ClassA++
        else if (!FREE.has(String(name))) counters.r2ClassB++
        return value.apply(target, args)
      }
    },
  })
}

const meteredEnvs = new WeakMap<D1Database, Env>()

/** The bindings with counting; calls of objects are counted in the object that is called (`metered.ts`). */
export function meterEnv(env: Env): Env {
  const known = meteredEnvs.get(env.DB)
  if (known) return known
  meterD1(env.DB)
  const counted = { ...env, PACKAGES: meterBucket(env.PACKAGES) }
  meteredEnvs.set(env.DB, counted)
  return counted
}
