import type { Env } from '../common/env.ts'

/** `root`: tenants and their first keys. The others belong to a tenant; `bridge` may serve every tenant (`*`). */
export type Role = 'root' | 'admin' | 'operator' | 'viewer' | 'bridge'

/** Who asks: a key that was found and is not revoked, or a person whom Cloudflare Access names. */
export interface Principal {
  /** Of the key; `access:` and the address of a person. */
  keyId: string
  /** What its owner calls the key; the address of a person. */
  keyName: string
  role: Role
  /** Null for root keys and for bridge keys of the whole installation. */
  tenantId: string | null
  /** The bridge that a key of role `bridge` names. */
  bridge: string | null
}

/** Hono's types for every route of the app. */
export interface AppEnv {
  Bindings: Env
  Variables: { principal: Principal }
}
