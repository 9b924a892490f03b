import type { Env } from '../common/env.ts'

/** Whoever waits for a bridge's credit: the hub knows its return address and nothing else of it. */
export interface Waiter {
  wake(): Promise<void>
}

/** The waiter behind a return address. */
export const waiterAt = (env: Env, returnAddress: string) =>
  env.UPGRADE_TASK.getByName(returnAddress) as unknown as DurableObjectStub<Waiter & Rpc.DurableObjectBranded>
