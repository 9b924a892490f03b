/**
 * Every changing call under `/api/v1/` → its name in the audit log. The names are stable: operators search for them.
 * Null if the call changes nothing, or is a part of something that has an entry of its own.
 */
export const ACTIONS: Readonly<Record<string, string | null>> = {
  'POST tenants': 'tenant.create',
  'POST keys': 'key.create',
  'DELETE keys/:id': 'key.revoke',

  'POST products': 'product.create',
  'PATCH products/:id': 'product.update',
  'DELETE products/:id': 'product.delete',
  'POST products/:id/freeze': 'product.freeze',
  'POST products/:id/unfreeze': 'product.unfreeze',
  'POST products/:id/signing-keys': 'product.signing_key_add',
  'DELETE products/:id/signing-keys/:keyId': 'product.signing_key_retire',

  'POST devices': 'device.create',
  'POST devices/import': 'device.import',
  'PATCH devices/:id': 'device.update',
  'DELETE devices/:id': 'device.delete',
  'POST devices/:id/rotate-token': 'device.rotate_token',

  'POST packages': 'package.create',
  'DELETE packages/:id': 'package.delete',
  'PUT packages/:id/file': 'package.file',
  'PUT packages/:id/signature': 'package.signature',
  'POST packages/:id/recall': 'package.recall',
  'POST packages/:id/uploads': 'package.upload_start',
  'PUT packages/:id/uploads/:uploadId/parts/:n': null,
  'POST packages/:id/uploads/:uploadId/complete': 'package.upload_complete',
  'DELETE packages/:id/uploads/:uploadId': 'package.upload_abort',

  'POST tasks': 'task.create',
  'POST tasks/preview': null,
  'PATCH tasks/:id': 'task.update',
  'DELETE tasks/:id': 'task.delete',
  'POST tasks/:id/pause': 'task.pause',
  'POST tasks/:id/resume': 'task.resume',
  'POST tasks/:id/cancel': 'task.cancel',
  'POST tasks/:id/retry': 'task.retry',
  'POST tasks/:id/waves/next': 'task.wave_next',
  'POST tasks/:id/devices/:deviceId/cancel': 'task.device_cancel',
  'POST tasks/:id/devices/:deviceId/retry': 'task.device_retry',

  'POST webhooks': 'webhook.create',
  'PATCH webhooks/:id': 'webhook.update',
  'DELETE webhooks/:id': 'webhook.delete',
  'POST webhooks/:id/deliveries/:deliveryId/replay': 'webhook.replay',
}

const PREFIX = '/api/v1/'

/**
 * The action of a route by its method and path template (`/api/v1/tasks/:id/pause`); null if it has no entry. A
 * route that is missing in `ACTIONS` is recorded all the same, by its method and path.
 */
export function actionOf(method: string, template: string): string | null {
  const route = `${method} ${template.startsWith(PREFIX) ? template.slice(PREFIX.length) : template}`
  return Object.hasOwn(ACTIONS, route) ? ACTIONS[route]! : route
}
