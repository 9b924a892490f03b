import type { Env } from '../../src/common/env.ts'
import worker, { BridgeHub, PackageVerifier, UpgradeTask, WebhookSender } from '../../src/index.ts'
import { counters, duringCall, meterEnv, meterStorage, readCounters, resetCounters } from './meter.ts'

// The Worker with counting: `GET /bench/counters` returns what was counted since the last `DELETE`.

type ObjectClass = new (ctx: DurableObjectState, env: Env) => object

/** Returns the object class with each of its calls counted and timed. */
function metered<T extends ObjectClass>(base: T): T {
  const counted = class extends (base as ObjectClass) {
    constructor(ctx: DurableObjectState, env: Env) {
      meterStorage(ctx)
      super(ctx, meterEnv(env))
    }
  }
  for (const name of Object.getOwnPropertyNames(base.prototype)) {
    const original = base.prototype[name]
    if (name === 'constructor' || typeof original !== 'function') continue
    Object.defineProperty(counted.prototype, name, {
      configurable: true,
      value(this: object, ...args: unknown[]) {
        if (name.startsWith('webSocket')) counters.webSocketMessages++
        else counters.objectRequests++
        return duringCall(this, () => original.apply(this, args))
      },
    })
  }
  return counted as unknown as T
}

const Hub = metered(BridgeHub)
const Verifier = metered(PackageVerifier)
const Task = metered(UpgradeTask)
const Sender = metered(WebhookSender)

export { Hub as BridgeHub, Sender as WebhookSender, Task as UpgradeTask, Verifier as PackageVerifier }

export default {
  async fetch(request: Request, env: Env, ctx: ExecutionContext): Promise<Response> {
    if (new URL(request.url).pathname === '/bench/counters') {
      if (request.method === 'DELETE') resetCounters()
      return Response.json(readCounters())
    }
    counters.workerRequests++
    return worker.fetch!(request as never, meterEnv(env), ctx)
  },
}
