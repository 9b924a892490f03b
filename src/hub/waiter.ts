import type { Env } from '../common/env.ts'

/** Something that waits for a bridge's credit. The hub knows its return address and nothing else. */
export interface Waiter {
  wake(): Promise<void>
}

/** The waiter behind a return address. */
export const waiterAt = (env: Env, returnAddress: string) =>
  env.UPGRADE_TASK.getByName(returnAddress) as unknown as DurableObjectStub<Waiter & Rpc.DurableObjectBranded>
