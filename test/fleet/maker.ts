import { createHash, createHmac, createPrivateKey } from 'node:crypto'
import { publicKeyOf } from '../../bridge/signing/private-key.ts'
import { signFirmware } from '../../bridge/signing/sign-firmware.ts'
import type { Api } from './api-client.ts'
import type { Trust } from './verify.ts'

/** Before the 32 bytes of an Ed25519 key in PKCS #8. */
const PKCS8_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex')

/** Who makes the firmware of a simulated fleet. */
export interface Maker {
  keyId: string
  trust: Trust
  /** The signature of a full package for the API. */
  sign(version: string, module: string, file: Uint8Array): { keyId: string; value: string }
}

/**
 * Makes a maker whose key the product has; adds the key if it is new, which takes an admin's API key. It is derived from
 * that, as the tokens of the fleet are, so that the next run has the same.
 */
export async function ensureMaker(
  api: Api,
  { id, signingName }: { id: string; signingName: string },
  apiKey: string,
): Promise<Maker> {
  const seed = createHmac('sha256', apiKey).update(`${id} firmware`).digest()
  const key = createPrivateKey({ key: Buffer.concat([PKCS8_HEAD, seed]), format: 'der', type: 'pkcs8' })
  const publicKey = publicKeyOf(key)
  const keyId =
    (await findKey(api, id, publicKey)) ?? (await api.addSigningKey(id, 'Simulated maker', publicKey)).id
  return {
    keyId,
    trust: { signingName, publicKeys: [publicKey] },
    sign(version, module, file) {
      const sha256 = createHash('sha256').update(file).digest('hex')
      const firmware = {
        signingName,
        module,
        version,
        sourceVersion: null,
        size: file.byteLength,
        sha256,
        counter: 0,
      }
      return { keyId, value: signFirmware(key, firmware) }
    },
  }
}

async function findKey(api: Api, productId: string, publicKey: string): Promise<string | undefined> {
  for await (const key of api.signingKeys(productId)) {
    if (key.publicKey === publicKey && key.retiredAt === null) return key.id
  }
  return undefined
}
