import { z } from '@hono/zod-openapi'
import type { uploadParts, uploads } from '../db/schema.ts'
import { sha256Hex } from './digests.ts'
import { filename } from './filename.ts'

export type Upload = typeof uploads.$inferSelect
export type UploadPart = typeof uploadParts.$inferSelect

const MIB = 1024 * 1024
/** A file that goes up in parts. */
export const MAX_UPLOAD_BYTES = 5 * 1024 * MIB
/** From R2's least size of a part upwards, and below what one request may carry. */
const PART_SIZES = [16 * MIB, 32 * MIB, 64 * MIB]
/** Larger parts are taken where smaller ones would be more than these. */
const WANTED_PARTS = 100
/** Uploads of one package that are open at once. */
export const MAX_OPEN_UPLOADS = 5
/** R2 forgets an upload that was not completed in this time. */
export const UPLOAD_LIFETIME_MS = 7 * 24 * 3600_000

export const partSizeFor = (size: number) =>
  PART_SIZES.find((partSize) => size <= partSize * WANTED_PARTS) ?? PART_SIZES.at(-1)!

type Sizes = Pick<Upload, 'size' | 'partSize'>

export const partCount = ({ size, partSize }: Sizes) => Math.ceil(size / partSize)

/** Bytes of part `part` (1 and up): all are equal but the last. Undefined where there is no such part. */
export function expectedPartSize(upload: Sizes, part: number): number | undefined {
  const count = partCount(upload)
  if (part < 1 || part > count) return undefined
  return part < count ? upload.partSize : upload.size - upload.partSize * (count - 1)
}

/** The numbers of the parts that have not arrived. */
export function missingParts(upload: Sizes, parts: UploadPart[]): number[] {
  const arrived = new Set(parts.map(({ part }) => part))
  return Array.from({ length: partCount(upload) }, (_, index) => index + 1).filter(
    (part) => !arrived.has(part),
  )
}

export const newUploadBody = z.strictObject({
  size: z
    .number()
    .int()
    .min(1, 'a file is not empty')
    .max(MAX_UPLOAD_BYTES, `must be at most ${MAX_UPLOAD_BYTES} bytes`),
  sha256: sha256Hex.nullish().openapi({ description: 'Checked before the package becomes ready' }),
  filename: filename.nullish(),
})

export const newUploadAnswer = z.object({
  uploadId: z.string(),
  partSize: z.number().int().openapi({ description: 'Bytes of every part but the last, which has the rest' }),
})

export const partAnswer = z.object({ part: z.number().int(), size: z.number().int() })

export const uploadAnswer = z
  .object({
    uploadId: z.string(),
    size: z.number().int(),
    partSize: z.number().int(),
    parts: z.array(partAnswer),
    missing: z.array(z.number().int()),
  })
  .openapi('Upload')

export const toUploadAnswer = (upload: Upload, parts: UploadPart[]): z.infer<typeof uploadAnswer> => ({
  uploadId: upload.id,
  size: upload.size,
  partSize: upload.partSize,
  parts: parts.map(({ part, size }) => ({ part, size })),
  missing: missingParts(upload, parts),
})
