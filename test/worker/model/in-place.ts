import { maybeHandleRunRequest } from 'cloudflare:test-internal'
import { env } from 'cloudflare:workers'

/**
 * For each call of an object the test plugin sends a request to an object of its own, which looks up the module of the
 * class. That is half the work of a call, so it is looked up in place here. The modules must have been loaded already:
 * only the plugin's object can load them.
 */
export function lookUpModulesInPlace(): void {
  const runnerEnv = env as unknown as { __VITEST_POOL_WORKERS_RUNNER_OBJECT: unknown }
  runnerEnv.__VITEST_POOL_WORKERS_RUNNER_OBJECT = {
    get: () => ({ fetch: (_: string, request: RequestInit) => maybeHandleRunRequest(request, null) }),
  }
}
