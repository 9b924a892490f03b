import { Buffer } from 'node:buffer'
import { expect } from 'vitest'
import { type Client, caller, makeClient } from '../api.ts'
import { makeLab } from '../lab.ts'
import { until } from '../lab-clock.ts'

/** A tenant that has one of everything, and the keys of all who may call. */
export interface Fixture {
  /** By the name of a parameter or field; `{id}` by the path's collection, such as `devices.id`. */
  values: Record<string, string[]>
  callers: Record<'admin' | 'root' | 'bridge' | 'device', Client['call']>
  /** Fields of bodies, by path, that rules beside the schema call for. */
  fields: Record<string, Record<string, unknown>>
  keys: Record<'admin' | 'root' | 'bridge' | 'device', string>
}

/** Of the length that the open upload announces. */
export const FILE = 'firmware'

/** A key that signs firmware: its 32 bytes in base64. */
export async function newPublicKey(): Promise<string> {
  const { publicKey } = (await crypto.subtle.generateKey('Ed25519', true, [
    'sign',
    'verify',
  ])) as CryptoKeyPair
  return Buffer.from((await crypto.subtle.exportKey('raw', publicKey)) as ArrayBuffer).toString('base64')
}

export async function makeFixture(): Promise<Fixture> {
  const lab = await makeLab(2)
  const { admin, productId } = lab
  const [root, bridge] = await Promise.all([
    makeClient('root', null),
    makeClient('bridge', admin.tenantId, 'default'),
  ])
  const make = async (path: string, body: unknown, status = 201) => {
    const made = await admin.call('POST', `/api/v1${path}`, body)
    expect(made.status, JSON.stringify(made.body)).toBe(status)
    return made.body
  }
  const packageId = await lab.addPackage('v2')
  const task = await lab.addTask(packageId)
  await until('the task has its devices', async () => (await task.get()).counts.total === lab.devices.length)
  const drafts: string[] = []
  for (const version of ['v3', 'v4', 'v5']) {
    drafts.push((await make('/packages', { productId, name: 'draft', version })).id)
  }
  const upload = await make(`/packages/${drafts[0]}/uploads`, { size: FILE.length })
  const webhook = await make('/webhooks', { url: 'https://hooks.example.com/ota', events: ['bridge.away'] })
  const key = await make('/keys', { name: 'spare', role: 'viewer' })
  const signingKey = await make(`/products/${productId}/signing-keys`, {
    name: 'spare',
    publicKey: await newPublicKey(),
  })
  const { body: packages } = await admin.call('GET', `/api/v1/packages?productId=${productId}`)
  const packageIds = packages.items.map(({ id }: { id: string }) => id)
  const devices = lab.devices.map(({ id }) => id)
  const keys = { admin: admin.key, root: root.key, bridge: bridge.key, device: lab.devices[0]!.token }
  const onePackage = { packageId, packageIds: undefined }
  return {
    fields: { '/api/v1/tasks': onePackage, '/api/v1/tasks/preview': onePackage },
    keys,
    callers: { admin: admin.call, root: root.call, bridge: bridge.call, device: caller(keys.device) },
    values: {
      'tenants.id': [admin.tenantId],
      'keys.id': [key.id],
      'products.id': [productId],
      'devices.id': devices,
      'packages.id': packageIds,
      // The package whose upload it is.
      'uploads.id': drafts.slice(0, 1),
      'tasks.id': [task.id],
      'webhooks.id': [webhook.id],
      tenantId: [admin.tenantId],
      productId: [productId],
      deviceId: devices,
      deviceIds: devices,
      ids: devices,
      numbers: lab.devices.map(({ number }) => number),
      packageId: packageIds,
      packageIds,
      uploadId: [upload.uploadId],
      taskId: [task.id],
      n: ['1'],
      keyId: [signingKey.id],
      publicKey: [await newPublicKey()],
      url: ['https://hooks.example.com/ota'],
      timeZone: ['UTC', 'Asia/Shanghai'],
      bridge: ['default'],
      username: lab.devices.map(({ token }) => token),
    },
  }
}

/** Who may call the operation. */
export function callerOf(path: string): keyof Fixture['callers'] {
  if (path.startsWith('/device/')) return 'device'
  if (path.startsWith('/bridge/') || path.startsWith('/broker/')) return 'bridge'
  return path === '/api/v1/tenants' ? 'root' : 'admin'
}
