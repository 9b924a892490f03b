import { Buffer } from 'node:buffer'
import type { NoticePackage } from '../protocol/device.ts'
import { type Reason, reason } from '../reasons/reason.ts'

/** A ready package, as far as its file in the bucket goes. */
export type StoredPackage = Pick<NoticePackage, 'version' | 'size' | 'signMethod' | 'sign'> & {
  id: string
  storageKey: string
  /** The bucket's own, when the task was created; undefined for a task of an earlier release. */
  etag?: string | undefined
}

export interface FileLook {
  etag: string | undefined
  /** Why no device can be sent to the file; null if it is there as it was verified. */
  fault: Reason | null
}

/** Asks the bucket what there is of a package's file. It reads no byte of it. */
export async function lookAtFile(bucket: R2Bucket, pkg: StoredPackage): Promise<FileLook> {
  const object = await bucket.head(pkg.storageKey)
  const params = { packageId: pkg.id, version: pkg.version }
  if (!object) return { etag: undefined, fault: reason('file_missing', params) }
  return { etag: object.etag, fault: isSame(object, pkg) ? null : reason('file_changed', params) }
}

/** The bucket knows no digest of every file: an MD5 only of one that was uploaded at once. */
function isSame({ size, etag, checksums }: R2Object, pkg: StoredPackage): boolean {
  if (size !== pkg.size || (pkg.etag !== undefined && etag !== pkg.etag)) return false
  const digest = pkg.signMethod === 'MD5' ? checksums.md5 : checksums.sha256
  return digest === undefined || Buffer.from(digest).toString('hex') === pkg.sign
}
