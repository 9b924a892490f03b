import { app } from './app.ts'
import type { Env } from './common/env.ts'
import { steady } from './db/steady.ts'
import { sweep } from './retention/sweep.ts'

export { BridgeHub } from './hub/hub-object.ts'
export { PackageVerifier } from './packages/package-verifier.ts'
export { UpgradeTask } from './tasks/object/task-object.ts'
export { WebhookSender } from './webhooks/sender-object.ts'

export default {
  fetch: (request, env, context) => app.fetch(request, env, context),
  scheduled: ({ scheduledTime }, env) => sweep(steady(env), scheduledTime),
} satisfies ExportedHandler<Env>
