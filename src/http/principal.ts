import type { Env } from '../common/env.ts'
import type { Repeat } from '../common/ids.ts'

/** `root` is the installation's. The others belong to a tenant; only `bridge` may serve every tenant (`*`). */
export type Role = 'root' | 'admin' | 'operator' | 'viewer' | 'bridge'

/** The caller: a key that is not revoked, or a person whom Cloudflare Access identified. */
export interface Principal {
  /** The key's id, or `access:` and a person's email address. */
  keyId: string
  /** The key's name, or a person's email address. */
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
  Variables: {
    principal: Principal
    /** Set if the request has an `Idempotency-Key`. */
    repeat?: Repeat
  }
}
