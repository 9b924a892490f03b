import { z } from '@hono/zod-openapi'
import type { uploadParts, uploads } from '../db/schema.ts'
import { sha256Hex } from './digests.ts'
import { filename } from './filename.ts'

export type Upload = typeof uploads.$inferSelect
export type UploadPart = typeof uploadParts.$inferSelect

const MIB = 1024 * 1024
/** The largest file that can be uploaded in parts. */
export const MAX_UPLOAD_BYTES = 5 * 1024 * MIB
/** Above R2's minimum of 5 MiB a part, below `MAX_BODY_BYTES`. */
const PART_SIZES = [16 * MIB, 32 * MIB, 64 * MIB]
/** A larger part size is chosen if a file would have more parts than this. */
const WANTED_PARTS = 100
/** One package may have this many open uploads at once. */
export const MAX_OPEN_UPLOADS = 5
/** R2 drops an upload that is not completed within this time. */
export const UPLOAD_LIFETIME_MS = 7 * 24 * 3600_000

export const partSizeFor = (size: number) =>
  PART_SIZES.find((partSize) => size <= partSize * WANTED_PARTS) ?? PART_SIZES.at(-1)!

type Sizes = Pick<Upload, 'size' | 'partSize'>

export const partCount = ({ size, partSize }: Sizes) => Math.ceil(size / partSize)

/** Size in bytes of a part, counted from 1; only the last one is smaller. Undefined if the upload has no such part. */
export function expectedPartSize(upload: Sizes, part: number): number | undefined {
  const count = partCount(upload)
  if (part < 1 || part > count) return undefined
  return part < count ? upload.partSize : upload.size - upload.partSize * (count - 1)
}

/** The numbers of the parts that have not arrived, ascending. */
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
  partSize: z
    .number()
    .int()
    .openapi({ description: 'Bytes of every part but the last, which may be smaller' }),
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
