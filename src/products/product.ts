import { z } from '@hono/zod-openapi'
import { iso } from '../common/time.ts'
import type { products } from '../db/schema.ts'
import { bridgeName, description, label, moduleName, name } from '../http/openapi.ts'
import { MAX_SIGNING_NAME } from '../signing/signing-key.ts'

export type Product = typeof products.$inferSelect

const fields = {
  name,
  description: description.nullable(),
  bridge: bridgeName,
  defaultModuleParam: moduleName
    .nullable()
    .openapi({ description: 'The `module` of notices for the whole firmware; null leaves it out' }),
  notifyCancel: z.boolean(),
  downloads: z
    .enum(['r2', 'worker'])
    .nullable()
    .openapi({
      description:
        'How devices download: by presigned links of R2, or by short ones through the Worker; null for the ' +
        'default of the installation',
    }),
  signingName: label(MAX_SIGNING_NAME).openapi({
    description:
      "Its name in what signatures cover, as devices have it built in; fixed by the product's first key",
  }),
  requireSignature: z.boolean().openapi({ description: 'No unsigned package goes out' }),
}

/** By default the product's name. */
export const signingNameOf = ({ signingName, name }: Pick<Product, 'signingName' | 'name'>) =>
  signingName ?? Array.from(name).slice(0, MAX_SIGNING_NAME).join('').replace(/ +$/, '')

export const newProductBody = z.strictObject({
  name: fields.name,
  description: fields.description.optional(),
  bridge: fields.bridge.default('default'),
  defaultModuleParam: fields.defaultModuleParam.optional(),
  notifyCancel: fields.notifyCancel.default(false),
  downloads: fields.downloads.default(null),
  signingName: fields.signingName.optional(),
  requireSignature: fields.requireSignature.default(false),
})

/** Null clears `description`, `defaultModuleParam` or `downloads`. */
export const productChangesBody = z.strictObject(fields).partial()

export const productAnswer = z
  .object({
    id: z.string(),
    ...fields,
    frozen: z.boolean(),
    frozenAt: z.string().nullable(),
    createdAt: z.string(),
  })
  .openapi('Product')

export const toProductAnswer = ({ tenantId: _, frozenAt, createdAt, ...product }: Product) => ({
  ...product,
  signingName: signingNameOf(product),
  frozen: frozenAt !== null,
  frozenAt: iso(frozenAt),
  createdAt: iso(createdAt),
})
