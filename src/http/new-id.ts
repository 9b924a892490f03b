import type { Context } from 'hono'
import { type IdPrefix, newId, repeatableId } from '../common/ids.ts'
import type { AppEnv } from './principal.ts'

/**
 * The id of what the request makes. A repeat under its `Idempotency-Key` gets the same, so that what was made before an
 * answer was lost is not made once more (src/http/README.md#repeats).
 */
export const newIdFor = async (c: Context<AppEnv>, prefix: IdPrefix): Promise<string> =>
  c.var.repeat === undefined ? newId(prefix) : repeatableId(prefix, c.var.repeat)
