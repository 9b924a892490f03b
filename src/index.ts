import { app } from './app.ts'

export { BridgeHub } from './hub/hub-object.ts'
export { PackageVerifier } from './packages/package-verifier.ts'
export { UpgradeTask } from './tasks/object/task-object.ts'
export { WebhookSender } from './webhooks/sender-object.ts'

export default app
