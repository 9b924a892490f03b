import { env } from 'cloudflare:workers'
import { vi } from 'vitest'
import { hubName, hubStub } from '../../src/hub/hub.ts'
import { BridgeHub } from '../../src/hub/hub-object.ts'
import type { Lab } from './lab.ts'

/** Lets something happen once, after a task of the lab has read its devices and before their notices are made. */
export function meanwhile({ admin }: Lab, happens: () => Promise<unknown>): void {
  const { prepare } = BridgeHub.prototype
  const { id } = hubStub(env, hubName(admin.tenantId, 'default'))
  let isFirst = true
  const late = async function (this: BridgeHub, ...args: Parameters<typeof prepare>) {
    // Tasks of other tests have hubs of their own.
    const { ctx } = this as unknown as { ctx: DurableObjectState }
    if (isFirst && ctx.id.equals(id)) {
      isFirst = false
      await happens()
    }
    return prepare.apply(this, args)
  }
  // A task calls it over RPC, where everything is a promise.
  vi.spyOn(BridgeHub.prototype, 'prepare').mockImplementation(late as unknown as typeof prepare)
}
