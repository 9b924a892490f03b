import { randomText } from '../auth/key.ts'
import { contentDisposition } from './filename.ts'
import type { PackageRef } from './store.ts'

const RANDOM_BYTES = 16

/** Everything that a package ever had in the bucket. */
export const storagePrefix = ({ tenantId, packageId }: PackageRef) => `packages/${tenantId}/${packageId}/`

/** A key for one attempt to upload the package's file: no two attempts share one. */
export const newStorageKey = (ref: PackageRef) => storagePrefix(ref) + randomText(RANDOM_BYTES)

/** The headers of the file's downloads. */
export const httpMetadata = (filename: string | null): R2HTTPMetadata => ({
  contentType: 'application/octet-stream',
  contentDisposition: contentDisposition(filename),
})
