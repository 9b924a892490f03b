import { z } from '@hono/zod-openapi'
import { iso } from '../common/time.ts'
import type { signingKeys } from '../db/schema.ts'
import { name } from '../http/openapi.ts'
import { isBase64Of, PUBLIC_KEY_BYTES, SIGNATURE_BYTES } from '../protocol/firmware-signature.ts'

export type SigningKey = typeof signingKeys.$inferSelect

/** A product has at most so many keys that are in force; retired ones do not count. */
export const MAX_SIGNING_KEYS = 8

/** Characters of a product's `signingName`; its name is cut to them where it takes its place. */
export const MAX_SIGNING_NAME = 64

export const newSigningKeyBody = z.strictObject({
  name,
  publicKey: z
    .string()
    .refine((text) => isBase64Of(PUBLIC_KEY_BYTES, text), 'must be the 32 bytes of an Ed25519 key in base64')
    .openapi({ example: '11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=' }),
})

export const signingKeyAnswer = z
  .object({
    id: z.string(),
    name: z.string(),
    publicKey: z.string(),
    createdAt: z.string(),
    retiredAt: z.string().nullable(),
  })
  .openapi('SigningKey')

export const toSigningKeyAnswer = ({
  id,
  name,
  publicKey,
  createdAt,
  retiredAt,
}: SigningKey): z.infer<typeof signingKeyAnswer> => ({
  id,
  name,
  publicKey,
  createdAt: iso(createdAt),
  retiredAt: iso(retiredAt),
})

/** A package's signature, and the key that made it. */
export const signatureBody = z.strictObject({
  keyId: z.string().min(1).max(64),
  value: z
    .string()
    .refine(
      (text) => isBase64Of(SIGNATURE_BYTES, text),
      'must be the 64 bytes of an Ed25519 signature in base64',
    )
    .openapi({
      example: '5VZDAMNgrHKQhuLMgG6CioSHfx645dl02HPgZSJJAVVfuIIVkKM7rMYeOXAc+bRr0lv18FlbviRlUUFDjnoQCw==',
    }),
})
