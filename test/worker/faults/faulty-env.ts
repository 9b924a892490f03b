import { env } from 'cloudflare:workers'
import type { Env } from '../../../src/common/env.ts'

/** In every error's text: no answer may have it. */
export const PLATFORM_TEXT = 'text of the platform'

/** How each binding fails for a while. */
const FAULTS = {
  DB: () => new Error(`D1_ERROR: Network connection lost. ${PLATFORM_TEXT}`),
  PACKAGES: () => new Error(`get: We encountered an internal error. ${PLATFORM_TEXT} (10001)`),
  UPGRADE_TASK: () => Object.assign(new Error(PLATFORM_TEXT), { retryable: true }),
  BRIDGE_HUB: () => Object.assign(new Error(PLATFORM_TEXT), { durableObjectReset: true }),
  PACKAGE_VERIFIER: () => Object.assign(new Error(PLATFORM_TEXT), { overloaded: true }),
  WEBHOOK_SENDER: () => new Error(`internal error; reference = 0123 ${PLATFORM_TEXT}`),
  DEVICE_LIMIT: () => new Error(PLATFORM_TEXT),
  BROKER_LIMIT: () => new Error(PLATFORM_TEXT),
  BROKER_PEER_LIMIT: () => new Error(PLATFORM_TEXT),
  DEVICE_SHARE_LIMIT: () => new Error(PLATFORM_TEXT),
  DOWNLOAD_LIMIT: () => new Error(PLATFORM_TEXT),
  WRONG_LINK_LIMIT: () => new Error(PLATFORM_TEXT),
  KEY_FAILURE_LIMIT: () => new Error(PLATFORM_TEXT),
  SIGN_IN_LIMIT: () => new Error(PLATFORM_TEXT),
} satisfies Partial<Record<keyof Env, () => Error>>

export type Binding = keyof typeof FAULTS
export const BINDINGS = Object.keys(FAULTS) as Binding[]

export interface FaultyEnv {
  env: Env
  /** How many calls of each binding there were. */
  uses: Record<Binding, number>
}

/**
 * The bindings, of which one fails: its calls from the one numbered `from`, or up to the one numbered `until`. Without a
 * binding all work.
 */
export function faultyEnv(binding?: Binding, { from = 0, until = Number.POSITIVE_INFINITY } = {}): FaultyEnv {
  const uses = Object.fromEntries(BINDINGS.map((name) => [name, 0])) as Record<Binding, number>
  const call = (name: Binding, work: () => unknown): unknown => {
    const use = uses[name]++
    if (name === binding && use >= from && use < until) return Promise.reject(FAULTS[name]())
    return work()
  }
  const asked = env as unknown as Env
  const limiter = (name: Extract<Binding, `${string}_LIMIT`>) => ({
    limit: (options: RateLimitOptions) => call(name, () => asked[name].limit(options)),
  })
  const namespace = (name: 'UPGRADE_TASK' | 'BRIDGE_HUB' | 'PACKAGE_VERIFIER' | 'WEBHOOK_SENDER') => ({
    getByName: (id: string) => callable(asked[name].getByName(id), (work) => call(name, work)),
  })
  const faulty = {
    ...asked,
    DB: faultyDatabase(asked.DB, (work) => call('DB', work)),
    PACKAGES: callable(asked.PACKAGES, (work) => call('PACKAGES', work)),
    UPGRADE_TASK: namespace('UPGRADE_TASK'),
    BRIDGE_HUB: namespace('BRIDGE_HUB'),
    PACKAGE_VERIFIER: namespace('PACKAGE_VERIFIER'),
    WEBHOOK_SENDER: namespace('WEBHOOK_SENDER'),
    DEVICE_LIMIT: limiter('DEVICE_LIMIT'),
    BROKER_LIMIT: limiter('BROKER_LIMIT'),
    BROKER_PEER_LIMIT: limiter('BROKER_PEER_LIMIT'),
    DEVICE_SHARE_LIMIT: limiter('DEVICE_SHARE_LIMIT'),
    DOWNLOAD_LIMIT: limiter('DOWNLOAD_LIMIT'),
    WRONG_LINK_LIMIT: limiter('WRONG_LINK_LIMIT'),
    KEY_FAILURE_LIMIT: limiter('KEY_FAILURE_LIMIT'),
    SIGN_IN_LIMIT: limiter('SIGN_IN_LIMIT'),
  }
  return { env: faulty as unknown as Env, uses }
}

type Call = (work: () => unknown) => unknown
type Methods = Record<PropertyKey, (...args: unknown[]) => unknown>

/** All methods of the target are calls; what others define on it comes first. */
function callable<T extends object>(target: T, call: Call): T {
  return new Proxy({} as T, {
    get(own, name) {
      if (name in own) return own[name as keyof T]
      const value = Reflect.get(target, name, target)
      // Not asynchronous, and no call yet.
      if (name === 'resumeMultipartUpload') {
        return (...args: unknown[]) => callable((target as Methods)[name]!(...args) as object, call)
      }
      if (typeof value !== 'function' || name === 'then') return value
      return (...args: unknown[]) => call(() => (target as Methods)[name]!(...args))
    },
  })
}

function faultyDatabase(database: D1Database, call: Call): D1Database {
  const inner = new WeakMap<object, D1PreparedStatement>()
  const statement = (real: D1PreparedStatement): D1PreparedStatement => {
    const { first, run, all, raw } = callable(real, call)
    const made = { first, run, all, raw, bind: (...values: unknown[]) => statement(real.bind(...values)) }
    inner.set(made, real)
    return made as D1PreparedStatement
  }
  return {
    prepare: (sql: string) => statement(database.prepare(sql)),
    batch: (statements: D1PreparedStatement[]) =>
      call(() => database.batch(statements.map((one) => inner.get(one)!))),
  } as unknown as D1Database
}
