import { expect } from 'vitest'
import { firmwareText } from '../../firmware-text.ts'
import { type Lab, makeLab } from '../lab.ts'
import { addKey, type MakerKey, makeKey } from './signing-fixture.ts'

/** A lab whose product has a maker's key. */
export interface SignedLab extends Lab {
  maker: MakerKey
  keyId: string
  /** Makes a ready package with a signature and returns its id. */
  addSigned: (version: string, more?: Signed) => Promise<string>
  patchProduct: (changes: Record<string, unknown>) => Promise<void>
  retireKey: (keyId?: string) => Promise<void>
}

interface Signed {
  module?: string
  kind?: 'diff'
  sourceVersion?: string
  signMethod?: 'MD5'
  securityCounter?: number
  by?: { maker: MakerKey; keyId: string }
}

export async function makeSignedLab(devices = 1, product: Record<string, unknown> = {}): Promise<SignedLab> {
  const lab = await makeLab(devices, product)
  const path = `/api/v1/products/${lab.productId}`
  const maker = await makeKey()
  const keyId = await addKey(lab.admin, lab.productId, maker)
  return {
    ...lab,
    maker,
    keyId,
    addSigned: async (version, { by = { maker, keyId }, ...fields } = {}) => {
      const { module, sourceVersion: source, securityCounter: counter } = fields
      // The lab's file of a version.
      const text = firmwareText({ version, module, source, counter, file: `firmware ${version}` })
      return lab.addPackage(version, {
        ...fields,
        signature: { keyId: by.keyId, value: await by.maker.sign(text) },
      })
    },
    patchProduct: async (changes) => {
      const { status, body } = await lab.admin.call('PATCH', path, changes)
      expect(status, JSON.stringify(body)).toBe(200)
    },
    retireKey: async (id = keyId) => {
      expect((await lab.admin.call('DELETE', `${path}/signing-keys/${id}`)).status).toBe(204)
    },
  }
}

/** What the API answers to a new task of these packages. */
export const tryTask = ({ admin }: Lab, packageIds: string[], more: Record<string, unknown> = {}) =>
  admin.call('POST', '/api/v1/tasks', { packageIds, name: 'roll out', devices: 'all', ...more })
