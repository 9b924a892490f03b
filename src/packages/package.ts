import { z } from '@hono/zod-openapi'
import { iso } from '../common/time.ts'
import type { packages } from '../db/schema.ts'
import { freeJson } from '../http/free-json.ts'
import { description, label, listOf, moduleName, name, version } from '../http/openapi.ts'
import { MAX_COUNTER } from '../protocol/firmware-signature.ts'
import { signatureBody } from '../signing/signing-key.ts'

export type Package = typeof packages.$inferSelect

/** The platform's limit for one request's body; longer files are uploaded in parts. */
export const MAX_BODY_BYTES = 100 * 1024 * 1024
const MAX_EXT_DATA_BYTES = 8 * 1024
/** A key of a notice's `extData` that operators may not set (src/protocol/README.md#messages). */
const RESERVED_KEY = '_package_udi'

const extData = freeJson(MAX_EXT_DATA_BYTES).refine(
  (data) => !Object.hasOwn(data, RESERVED_KEY),
  `must not have the reserved key ${RESERVED_KEY}`,
)

const kind = z.enum(['full', 'diff'])
const signMethod = z.enum(['SHA256', 'MD5'])
const state = z.enum(['draft', 'verifying', 'ready', 'recalled'])

/** A null field counts as absent. */
export const newPackageBody = z
  .strictObject({
    productId: z.string(),
    name,
    version,
    module: moduleName.default('default'),
    kind: kind.default('full'),
    sourceVersion: version.nullish(),
    signMethod: signMethod.default('SHA256'),
    description: description.nullish(),
    extData: extData.nullish(),
    securityCounter: z.number().int().min(0).max(MAX_COUNTER).default(0),
    signature: signatureBody.nullish(),
  })
  .superRefine((body, ctx) => {
    const message = sourceVersionFault(body)
    if (message) ctx.addIssue({ code: 'custom', path: ['sourceVersion'], message })
  })

/** Makes the draft that a valid body describes. */
export const toNewPackage = (
  { sourceVersion, description = null, extData, signature, ...body }: z.infer<typeof newPackageBody>,
  made: Pick<Package, 'id' | 'tenantId' | 'createdAt'>,
): Package => ({
  ...made,
  ...body,
  sourceVersion: sourceVersion ?? '',
  description,
  extData: extData && Object.keys(extData).length > 0 ? extData : null,
  state: 'draft',
  error: null,
  size: null,
  sign: null,
  sha256: null,
  signature: signature?.value ?? null,
  signatureKeyId: signature?.keyId ?? null,
  signatureVerifiedAt: null,
  filename: null,
  storageKey: null,
  recalledAt: null,
})

/** The OpenAPI body of uploads: raw bytes, streamed and never parsed. */
export const binaryBody = {
  required: true,
  content: { 'application/octet-stream': { schema: { type: 'string' as const, format: 'binary' } } },
}

interface Versions {
  kind: 'full' | 'diff'
  version: string
  sourceVersion?: string | null | undefined
}

function sourceVersionFault({ kind, version, sourceVersion }: Versions): string | undefined {
  if (kind === 'full') return sourceVersion == null ? undefined : 'only a diff package has a sourceVersion'
  if (sourceVersion == null) return 'a diff package says from which version it starts'
  return sourceVersion === version ? 'must differ from version' : undefined
}

export const packageFilter = z.object({
  productId: z.string().optional(),
  name: label(128).optional().openapi({ description: 'A part of the name; case is ignored' }),
  state: state.optional(),
})
export type PackageFilter = z.infer<typeof packageFilter>

export const packageAnswer = z
  .object({
    id: z.string(),
    productId: z.string(),
    name: z.string(),
    description: z.string().nullable(),
    module: z.string(),
    version: z.string(),
    kind,
    sourceVersion: z.string().nullable(),
    signMethod,
    extData: z.record(z.string(), z.unknown()).nullable(),
    state,
    error: z
      .string()
      .nullable()
      .openapi({ description: "Why the last upload did not become the package's file" }),
    size: z.number().int().nullable().openapi({ description: 'In bytes' }),
    sign: z.string().nullable().openapi({ description: "The file's digest by `signMethod`, lower-case hex" }),
    sha256: z.string().nullable().openapi({ description: "The file's SHA-256, whatever `signMethod` is" }),
    securityCounter: z
      .number()
      .int()
      .openapi({ description: 'Devices refuse a signed image with a lower one than what they run' }),
    signature: z
      .object({
        keyId: z.string(),
        value: z.string(),
        verifiedAt: z.string().nullable().openapi({ description: 'When it fitted the complete file' }),
      })
      .nullable(),
    filename: z.string().nullable(),
    recalledAt: z
      .string()
      .nullable()
      .openapi({ description: 'Since then its file is deleted, and no task sends it' }),
    createdAt: z.string(),
  })
  .openapi('Package')
export const packageList = listOf(packageAnswer)

/** The package as the API shows it, without the storage key. */
export const toPackageAnswer = (pkg: Package): z.infer<typeof packageAnswer> => ({
  id: pkg.id,
  productId: pkg.productId,
  name: pkg.name,
  description: pkg.description,
  module: pkg.module,
  version: pkg.version,
  kind: pkg.kind,
  sourceVersion: pkg.sourceVersion === '' ? null : pkg.sourceVersion,
  signMethod: pkg.signMethod,
  extData: pkg.extData,
  state: pkg.state,
  error: pkg.error,
  size: pkg.size,
  sign: pkg.sign,
  sha256: pkg.sha256,
  securityCounter: pkg.securityCounter,
  signature:
    pkg.signature === null || pkg.signatureKeyId === null
      ? null
      : { keyId: pkg.signatureKeyId, value: pkg.signature, verifiedAt: iso(pkg.signatureVerifiedAt) },
  filename: pkg.filename,
  recalledAt: iso(pkg.recalledAt),
  createdAt: iso(pkg.createdAt),
})
