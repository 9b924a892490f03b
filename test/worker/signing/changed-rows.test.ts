import { env } from 'cloudflare:workers'
import { describe, expect, it } from 'vitest'
import { firmwareText } from '../../firmware-text.ts'
import { type LabDevice, over, reports, sha256 } from '../lab.ts'
import { makeSignedLab, type SignedLab, tryTask } from './signed-lab.ts'
import { makeKey } from './signing-fixture.ts'

// Who can write to D1, but has no private key.

const changePackage = async (id: string, set: string, ...values: unknown[]) => {
  const { meta } = await env.DB.prepare(`UPDATE packages SET ${set} WHERE id = ?`)
    .bind(...values, id)
    .run()
  expect(meta.changes).toBe(1)
}

const OTHER = sha256('an evil file')

/** Changes to the row of a package of v2 with counter 5, and the code of the refusal. */
const CHANGES: [string, string, unknown[], code?: string][] = [
  ['another version', 'version = ?', ['v3']],
  ['another module', 'module = ?', ['WIFI']],
  ['a diff instead of the full package', "kind = 'diff', source_version = ?", ['v1']],
  ['another size', 'size = ?', [12]],
  ['another digest for the notice', 'sign = ?', [OTHER]],
  ['another SHA-256', 'sha256 = ?', [OTHER]],
  ['both digests', 'sign = ?, sha256 = ?', [OTHER, OTHER]],
  ['MD5 instead, and another SHA-256', "sign_method = 'MD5', sign = ?, sha256 = ?", ['0'.repeat(32), OTHER]],
  ['a higher counter', 'security_counter = ?', [6]],
  ['a lower counter', 'security_counter = ?', [0]],
  ['another signature', 'signature = ?', [btoa('x'.repeat(64))]],
  ['a signature that is none', 'signature = ?', ['!']],
  ['no signature', 'signature = NULL', [], 'package.signature_required'],
  ['no key', 'signature_key_id = NULL', [], 'package.signature_required'],
  ['an unknown key', 'signature_key_id = ?', ['sgk_x'], 'package.signature_required'],
  ['no SHA-256', 'sha256 = NULL', [], 'package.signature_required'],
]

it.each(CHANGES)('a row with %s makes no task', async (_what, set, values, code) => {
  const lab = await makeSignedLab(1, { requireSignature: true })
  const pkg = await lab.addSigned('v2', { securityCounter: 5 })
  await changePackage(pkg, set, ...values)
  const { status, body } = await tryTask(lab, [pkg])
  expect([status, body.code]).toEqual([422, code ?? 'package.signature_invalid'])
  expect(await lab.unexpected()).toEqual([])
})

it.each(CHANGES)('a row with %s changes nothing of a task that is there', async (_what, set, values) => {
  const lab = await makeSignedLab(1, { requireSignature: true })
  const [device] = lab.devices as [LabDevice]
  const pkg = await lab.addSigned('v2', { securityCounter: 5 })
  await lab.addTask(pkg)
  const { url: _, ...first } = (await lab.push(device)).notice.params
  await changePackage(pkg, set, ...values)
  await lab.bridge.post([reports(device, 'v1')])
  const { url: __, ...again } = (await lab.push(device)).notice.params
  expect(again).toEqual(first)
})

it('the signature of another package of the product does not help', async () => {
  const lab = await makeSignedLab(1, { requireSignature: true })
  const [v1, v2] = [await lab.addSigned('v1'), await lab.addSigned('v2')]
  await env.DB.prepare(
    `UPDATE packages SET (signature, signature_key_id, sha256, sign, size) =
       (SELECT signature, signature_key_id, sha256, sign, size FROM packages WHERE id = ?) WHERE id = ?`,
  )
    .bind(v1, v2)
    .run()
  expect((await tryTask(lab, [v2])).body.code).toBe('package.signature_invalid')
})

/** What is changed of the product or its key, and what the task says then. */
const PRODUCT_CHANGES: [string, (lab: SignedLab) => Promise<unknown>, RegExp][] = [
  [
    'the public key',
    async ({ keyId }) =>
      env.DB.prepare('UPDATE signing_keys SET public_key = ? WHERE id = ?')
        .bind((await makeKey()).publicKey, keyId)
        .run(),
    /does not fit it$/,
  ],
  [
    "the key's product",
    ({ keyId }) =>
      env.DB.prepare("UPDATE signing_keys SET product_id = 'prd_x' WHERE id = ?").bind(keyId).run(),
    /none of the keys of its product/,
  ],
  [
    'the key, deleted',
    ({ keyId }) => env.DB.prepare('DELETE FROM signing_keys WHERE id = ?').bind(keyId).run(),
    /none of the keys of its product/,
  ],
  [
    'the signing name',
    ({ productId }) =>
      env.DB.prepare("UPDATE products SET signing_name = 'heater' WHERE id = ?").bind(productId).run(),
    /does not fit it$/,
  ],
  [
    'the signing name, none',
    ({ productId }) =>
      env.DB.prepare('UPDATE products SET signing_name = NULL WHERE id = ?').bind(productId).run(),
    /does not fit it$/,
  ],
]

describe.each(PRODUCT_CHANGES)('changed in D1: %s', (_what, change, says) => {
  it('a task that is there sends nothing more, and says why', async () => {
    const lab = await makeSignedLab(1)
    const [device] = lab.devices as [LabDevice]
    const task = await lab.addTask(await lab.addSigned('v2'))
    await lab.push(device)
    await change(lab)
    await lab.bridge.post([reports(device, 'v1')])
    expect(await lab.unexpected()).toEqual([])
    expect((await over(device)('GET', '/device/v1/upgrade')).body.params).toEqual({})
    expect((await task.get()).waitingFor).toMatch(says)
  })

  it('no task is made', async () => {
    const lab = await makeSignedLab(1)
    const pkg = await lab.addSigned('v2')
    await change(lab)
    expect((await tryTask(lab, [pkg])).status).toBe(422)
  })
})

it('a key and a signature that were both swapped go out as what they are: the device knows no such key', async () => {
  const lab = await makeSignedLab(1, { requireSignature: true })
  const [device] = lab.devices as [LabDevice]
  const pkg = await lab.addSigned('v2')
  const thief = await makeKey()
  const value = await thief.sign(firmwareText({ version: 'v2', file: 'firmware v2' }))
  await env.DB.prepare('UPDATE signing_keys SET public_key = ? WHERE id = ?')
    .bind(thief.publicKey, lab.keyId)
    .run()
  await changePackage(pkg, 'signature = ?', value)
  await lab.addTask(pkg)
  const { params } = (await lab.push(device)).notice
  expect(params.digestsign).toBe(value)
})
