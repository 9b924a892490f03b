import { expect, inject } from 'vitest'
import type { Client } from '../api.ts'

/** A maker's key pair, of which OpenSSL has the private part. */
export interface MakerKey {
  publicKey: string
  sign: (text: string) => Promise<string>
}

export async function makeKey(): Promise<MakerKey> {
  const url = inject('opensslUrl')
  const made = await fetch(`${url}/key`, { method: 'POST' })
  const { id, publicKey } = (await made.json()) as { id: number; publicKey: string }
  return {
    publicKey,
    sign: async (text) => (await fetch(`${url}/sign/${id}`, { method: 'POST', body: text })).text(),
  }
}

/** Adds the key to the product and returns its id. */
export async function addKey(admin: Client, productId: string, { publicKey }: MakerKey): Promise<string> {
  const path = `/api/v1/products/${productId}/signing-keys`
  const { status, body } = await admin.call('POST', path, { name: 'release', publicKey })
  expect(status, JSON.stringify(body)).toBe(201)
  return body.id
}
