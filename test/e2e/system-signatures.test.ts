import { afterAll, beforeAll, expect, it } from 'vitest'
import { firmwareText } from '../firmware-text.ts'
import { type Fleet, startFleet } from '../fleet/fleet.ts'
import { newSigningKey, signText } from '../openssl.ts'
import { eventually, type System, startSystem } from './system.ts'
import type { KnownDevice, Operator } from './system-operator.ts'

// Signed firmware through the whole system, with OpenSSL as its maker, and attacks on it that only a device can see.

const maker = newSigningKey()
let system: System
let admin: Operator
let productId: string
let keyId: string
let device: KnownDevice
let fleet: Fleet

beforeAll(async () => {
  system = await startSystem()
  admin = await system.newTenant()
  productId = await admin.product({ name: 'lamp', requireSignature: true })
  const key = { name: 'release', publicKey: maker.publicKey }
  keyId = (await admin.post(`/api/v1/products/${productId}/signing-keys`, key)).id
  device = await admin.device(productId, 'n1')
  fleet = startFleet({
    mqttUrl: system.mqttUrl(),
    devices: [{ number: device.number, accessToken: device.username }],
    behaviour: { version: 'v1', trust: { signingName: 'lamp', publicKeys: [maker.publicKey] } },
  })
  await fleet.started()
})
afterAll(async () => {
  fleet?.stop()
  await system?.close()
})

const truth = () => fleet.truth().get(device.number)!

function signedPackage(version: string, file: Uint8Array, more: { counter?: number; source?: string } = {}) {
  const { counter = 0, source } = more
  const value = signText(maker.pem, firmwareText({ version, file, counter, ...(source && { source }) }))
  const kind = source === undefined ? {} : { kind: 'diff', sourceVersion: source }
  return admin.pkg(productId, version, file, {
    securityCounter: counter,
    signature: { keyId, value },
    ...kind,
  })
}

async function ends(taskId: string, status: string, more: object = {}): Promise<void> {
  await eventually(async () =>
    expect(await admin.deviceIn(taskId, device)).toMatchObject({ status, ...more }),
  )
}

it('a signed package, a signed diff and a higher counter reach the device, and it runs them', async () => {
  const full = await signedPackage('v2', Buffer.alloc(300_000, 'v2'))
  await ends((await admin.task(full.id)).id, 'success')
  const diff = await signedPackage('v3', Buffer.alloc(50_000, 'v3'), { source: 'v2', counter: 2 })
  await ends((await admin.task(diff.id)).id, 'success')
  expect(truth()).toMatchObject({ version: 'v3', counter: 2 })
})

it('an old image, signed but with a lower counter, is refused with −3 and the device keeps its version', async () => {
  const old = await signedPackage('v2.5', Buffer.alloc(1000, 'old'), { counter: 1 })
  const { id } = await admin.task(old.id)
  await ends(id, 'failure', { step: -3, description: expect.stringContaining('counter 1 is lower than 2') })
  expect(truth()).toMatchObject({ version: 'v3', counter: 2 })
})

it('a file that was swapped in the bucket is refused with −3', async () => {
  const pkg = await signedPackage('v4', Buffer.alloc(1000, 'good'), { counter: 2 })
  const { DB, PACKAGES } = await system.worker.getEnv()
  const key = await DB.prepare('SELECT storage_key FROM packages WHERE id = ?')
    .bind(pkg.id)
    .first<string>('storage_key')
  await PACKAGES.put(key!, new Uint8Array(Buffer.alloc(1000, 'evil')))
  const { id } = await admin.task(pkg.id)
  await ends(id, 'failure', { step: -3 })
  expect(truth()).toMatchObject({ version: 'v3' })
})

it('a file in the bucket and its digests in D1, with a key of the thief to sign them, are refused with −3', async () => {
  const thief = newSigningKey()
  const evil = Buffer.alloc(1000, 'evil')
  const pkg = await signedPackage('v5', Buffer.alloc(1000, 'good'), { counter: 2 })
  const { DB, PACKAGES } = await system.worker.getEnv()
  const key = await DB.prepare('SELECT storage_key FROM packages WHERE id = ?')
    .bind(pkg.id)
    .first<string>('storage_key')
  await PACKAGES.put(key!, new Uint8Array(evil))
  const text = firmwareText({ version: 'v5', file: evil, counter: 2 })
  const sha256 = text.split('\n')[7]!
  await DB.batch([
    DB.prepare('UPDATE signing_keys SET public_key = ? WHERE id = ?').bind(thief.publicKey, keyId),
    DB.prepare('UPDATE packages SET sign = ?1, sha256 = ?1, signature = ?2 WHERE id = ?3').bind(
      sha256,
      signText(thief.pem, text),
      pkg.id,
    ),
  ])
  const { id } = await admin.task(pkg.id)
  await ends(id, 'failure', { step: -3, description: expect.stringContaining('the signature does not fit') })
  expect(truth()).toMatchObject({ version: 'v3' })
  expect(fleet.stats.unreadable).toBe(0)
})
