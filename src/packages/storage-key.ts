import { randomText } from '../auth/key.ts'
import { contentDisposition } from './filename.ts'
import type { PackageRef } from './store.ts'

const RANDOM_BYTES = 16

/** The prefix of every object that a package has in the bucket. */
export const storagePrefix = ({ tenantId, packageId }: PackageRef) => `packages/${tenantId}/${packageId}/`

/** A random key for one attempt to upload the package's file: a key never gets different content. */
export const newStorageKey = (ref: PackageRef) => storagePrefix(ref) + randomText(RANDOM_BYTES)

/** Headers that R2 sends with every download of the file. */
export const httpMetadata = (filename: string | null): R2HTTPMetadata => ({
  contentType: 'application/octet-stream',
  contentDisposition: contentDisposition(filename),
})
