import { maybeHandleRunRequest } from 'cloudflare:test-internal'
import { env, exports } from 'cloudflare:workers'

const runnerEnv = env as unknown as { __VITEST_POOL_WORKERS_RUNNER_OBJECT: unknown }
const pluginsOwn = runnerEnv.__VITEST_POOL_WORKERS_RUNNER_OBJECT

/**
 * For each call of an object the test plugin sends a request to an object of its own, which looks up the module of the
 * class. That is half the work of a call, so it is looked up in place here. The modules must have been loaded already:
 * only the plugin's object can load them.
 */
export function lookUpModulesInPlace(): void {
  runnerEnv.__VITEST_POOL_WORKERS_RUNNER_OBJECT = {
    get: () => ({ fetch: (_: string, request: RequestInit) => maybeHandleRunRequest(request, null) }),
  }
}

/** Lets the plugin's object load the modules, as it does for the first request to the Worker. */
export async function loadModules(): Promise<void> {
  runnerEnv.__VITEST_POOL_WORKERS_RUNNER_OBJECT = pluginsOwn
  await exports.default.fetch('http://edge-ota.test/')
}
