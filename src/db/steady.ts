import type { Env } from '../common/env.ts'
import { retried } from '../common/retries.ts'

const READS = /^\s*(?:SELECT|WITH)\b/i
const WRITES = /\b(?:INSERT|UPDATE|DELETE|REPLACE)\b/i

/** Each binding once, so that Drizzle opens it once (`openDb`). */
const databases = new WeakMap<D1Database, D1Database>()
const buckets = new WeakMap<R2Bucket, R2Bucket>()

/**
 * The environment for the Worker and its objects: calls of D1 and R2 that only read, and deletions in R2, are made again if
 * the platform lost them. A write to D1 is not: it may have been made, and a guarded one would then return that it came
 * too late. Whoever knows that a write changes nothing twice makes it `retried`.
 */
export const steady = (env: Env): Env =>
  Object.create(env, {
    DB: { value: once(databases, env.DB, steadyDatabase), enumerable: true },
    PACKAGES: { value: once(buckets, env.PACKAGES, steadyBucket), enumerable: true },
  })

function once<T extends object>(known: WeakMap<T, T>, binding: T, make: (binding: T) => T): T {
  const made = known.get(binding) ?? make(binding)
  known.set(binding, made)
  // What was made is itself steady: an object may be given the Worker's environment.
  known.set(made, made)
  return made
}

interface Statement extends D1PreparedStatement {
  /** Of the database itself, for `batch`. */
  inner: D1PreparedStatement
  isRead: boolean
}

function steadyDatabase(database: D1Database): D1Database {
  const again = <T>(isRead: boolean, call: () => Promise<T>) => (isRead ? retried(call) : call())
  const statement = (inner: D1PreparedStatement, isRead: boolean): Statement =>
    ({
      inner,
      isRead,
      bind: (...values: unknown[]) => statement(inner.bind(...values), isRead),
      first: (column?: string) => again<unknown>(isRead, () => inner.first(column as string)),
      run: () => again<unknown>(isRead, () => inner.run()),
      all: () => again<unknown>(isRead, () => inner.all()),
      raw: (options?: { columnNames?: false }) => again<unknown>(isRead, () => inner.raw(options)),
    }) as unknown as Statement
  const steadied = {
    prepare: (sql: string) => statement(database.prepare(sql), READS.test(sql) && !WRITES.test(sql)),
    batch: (statements: Statement[]) =>
      again(
        statements.every(({ isRead }) => isRead),
        () => database.batch(statements.map(({ inner }) => inner)),
      ),
  }
  // Nothing here calls the other methods.
  return steadied as unknown as D1Database
}

type Bucket = {
  [Name in keyof R2Bucket]: (...args: Parameters<R2Bucket[Name]>) => ReturnType<R2Bucket[Name]>
}

function steadyBucket(bucket: R2Bucket): R2Bucket {
  const steadied: Bucket = {
    head: (...args) => retried(() => bucket.head(...args)),
    get: (...args) => retried(() => bucket.get(...args)),
    list: (...args) => retried(() => bucket.list(...args)),
    delete: (...args) => retried(() => bucket.delete(...args)),
    put: (...args) => bucket.put(...args),
    createMultipartUpload: (...args) => bucket.createMultipartUpload(...args),
    resumeMultipartUpload: (...args) => bucket.resumeMultipartUpload(...args),
  }
  return steadied as R2Bucket
}
