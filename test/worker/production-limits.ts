import { runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { AsyncLocalStorage } from 'node:async_hooks'
import { app } from '../../src/app.ts'
import { BridgeHub, PackageVerifier, UpgradeTask, WebhookSender } from '../../src/index.ts'

// Limits that production has and workerd does not, or has wider (the 32 MiB of an object's call are its own). The Worker, its
// objects and the tests share one isolate, and so the prototypes of the platform's classes: every use of D1 and of an
// object's storage passes here.

const DOCUMENTED = {
  boundParameters: 100,
  /** Bytes of a value, and of a row. */
  row: 2_000_000,
  /** Bytes of a statement's text. */
  sql: 100_000,
  /** Of D1, in one request, call or alarm. */
  statements: 1_000,
}

interface Invocation {
  what: string
  /** The object whose call it is; undefined for a request to the Worker. */
  object: unknown
  /** Of D1, so far. */
  statements: number
}

const newState = () => ({
  limits: DOCUMENTED,
  /** What went beyond a limit since `takeExcesses` was called last. */
  excesses: [] as string[],
  invocations: new AsyncLocalStorage<Invocation>(),
})

/** Files that share an isolate load this module anew, but find the platform's classes wrapped: they share its state. */
const WRAPPED = Symbol.for('production-limits')
const shared = globalThis as { [WRAPPED]?: ReturnType<typeof newState> }
shared[WRAPPED] ??= newState()
const { limits: LIMITS, excesses, invocations } = shared[WRAPPED]

export { LIMITS }
export const takeExcesses = (): string[] => excesses.splice(0)

/** The caller gets an error like the platform's, and the test fails even if the caller hides it. */
function exceeded(what: string, platformText: string): never {
  excesses.push(what)
  throw new Error(platformText)
}

const utf8 = new TextEncoder()
/** Three bytes of UTF-8 are the most that one unit of UTF-16 takes, so most texts need no count. */
const bytesOf = (text: string, limit: number) =>
  text.length * 3 <= limit ? text.length : utf8.encode(text).length

/** About as many bytes as a value takes when it is stored. */
function sizeOf(value: unknown): number {
  if (typeof value === 'string') return utf8.encode(value).length
  if (typeof value !== 'object' || value === null) return 8
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return value.byteLength
  if (value instanceof Map || value instanceof Set) return sizeOf([...value])
  return Object.entries(value).reduce((sum, [name, item]) => sum + name.length + sizeOf(item), 0)
}

function checkStatement(where: string, text: string): void {
  if (bytesOf(text, LIMITS.sql) > LIMITS.sql) {
    exceeded(
      `${where}: a statement of ${text.length} characters`,
      `${where}: statement too long: SQLITE_TOOBIG`,
    )
  }
}

/** Returns the bytes of all values. */
function checkValues(where: string, values: unknown[]): number {
  if (values.length > LIMITS.boundParameters) {
    exceeded(`${where}: ${values.length} parameters`, `${where}: too many SQL variables: SQLITE_ERROR`)
  }
  const sizes = values.map((value) =>
    typeof value === 'string' ? bytesOf(value, LIMITS.row) : sizeOf(value),
  )
  const largest = Math.max(0, ...sizes)
  if (largest > LIMITS.row) {
    exceeded(`${where}: a value of ${largest} bytes`, `${where}: string or blob too big: SQLITE_TOOBIG`)
  }
  return sizes.reduce((sum, size) => sum + size, 0)
}

// ---- Statements of one invocation -----------------------------------------------------------------------

function countStatements(count: number): void {
  const invocation = invocations.getStore()
  if (!invocation) return
  invocation.statements += count
  if (invocation.statements > LIMITS.statements) {
    const text = 'Too many API requests by single Worker invocation.'
    exceeded(`D1: more than ${LIMITS.statements} statements in ${invocation.what}`, text)
  }
}

// ---- What is wrapped ------------------------------------------------------------------------------------

type Method = (this: unknown, ...args: unknown[]) => unknown
type Methods = Record<string, Method>

function wrap(prototype: object, name: string, around: (inner: Method) => Method): void {
  const methods = prototype as Methods
  const inner = methods[name] as Method & { [WRAPPED]?: true }
  if (inner[WRAPPED]) return
  methods[name] = Object.assign(around(inner), { [WRAPPED]: true as const })
}

/** Calls the method once `check` has let it pass. */
const checked =
  (check: (args: unknown[]) => void) =>
  (inner: Method): Method =>
    function (...args) {
      check(args)
      return inner.apply(this, args)
    }

function wrapDatabase(database: D1Database): void {
  const ofDatabase = Object.getPrototypeOf(database)
  const ofStatement = Object.getPrototypeOf(database.prepare('SELECT 1'))
  wrap(
    ofDatabase,
    'prepare',
    checked(([sql]) => checkStatement('D1', sql as string)),
  )
  wrap(
    ofDatabase,
    'batch',
    checked(([statements]) => countStatements((statements as unknown[]).length)),
  )
  wrap(
    ofStatement,
    'bind',
    checked((values) => void checkValues('D1', values)),
  )
  for (const name of ['first', 'run', 'all', 'raw'])
    wrap(
      ofStatement,
      name,
      checked(() => countStatements(1)),
    )
}

function wrapStorage(storage: DurableObjectStorage): void {
  const WRITES = /^\s*(?:INSERT|REPLACE|UPDATE)\b/i
  const checkExec = ([sql, ...values]: unknown[]) => {
    checkStatement('object', sql as string)
    // What is bound is most of what a row gets.
    const bytes = checkValues('object', values)
    if (WRITES.test(sql as string) && bytes > LIMITS.row) {
      exceeded(`object: a row of ${bytes} bytes`, 'string or blob too big: SQLITE_TOOBIG')
    }
  }
  const checkPut = ([key, value]: unknown[]) => {
    const pairs = typeof key === 'string' ? [[key, value]] : Object.entries(key as object)
    for (const [name, item] of pairs) {
      const bytes = sizeOf(name) + sizeOf(item)
      if (bytes > LIMITS.row)
        exceeded(`object: ${bytes} bytes under ${name}`, 'Values cannot be larger than 2 MB.')
    }
  }
  wrap(Object.getPrototypeOf(storage.sql), 'exec', checked(checkExec))
  wrap(Object.getPrototypeOf(storage.kv), 'put', checked(checkPut))
  wrap(Object.getPrototypeOf(storage), 'put', checked(checkPut))
}

/** Each call of an object from outside is an invocation of its own. */
function wrapObject({ name: className, prototype }: { name: string; prototype: object }): void {
  for (const name of Object.getOwnPropertyNames(prototype)) {
    if (name === 'constructor') continue
    const what = `${className}.${name}`
    wrap(prototype, name, (inner) => {
      return function (...args) {
        const call = () => inner.apply(this, args)
        const isInside = invocations.getStore()?.object === this
        return isInside ? call() : invocations.run({ what, object: this, statements: 0 }, call)
      }
    })
  }
}

/** Lets everything that the platform would refuse fail here too, in this isolate and for as long as it lives. */
export async function enforceProductionLimits(): Promise<void> {
  wrapDatabase(env.DB)
  await runInDurableObject(env.PACKAGE_VERIFIER.getByName('limits'), (_, { storage }) => wrapStorage(storage))
  for (const object of [BridgeHub, PackageVerifier, UpgradeTask, WebhookSender]) wrapObject(object)
  wrap(app, 'fetch', (inner) => {
    return function (...args) {
      const { method, url } = args[0] as Request
      const what = `${method} ${new URL(url).pathname}`
      return invocations.run({ what, object: undefined, statements: 0 }, () => inner.apply(this, args))
    }
  })
}
