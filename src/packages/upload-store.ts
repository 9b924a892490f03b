import { and, asc, eq, exists, lt, sql } from 'drizzle-orm'
import type { Db } from '../db/client.ts'
import { packages, uploadParts, uploads } from '../db/schema.ts'
import type { Package } from './package.ts'
import { isPackage, type PackageRef, type StoredFile } from './store.ts'
import { MAX_OPEN_UPLOADS, type Upload, type UploadPart } from './upload.ts'

/** An upload's id with its package's and its tenant's. */
export interface UploadRef extends PackageRef {
  uploadId: string
}

const ofPackage = ({ tenantId, packageId }: PackageRef) =>
  and(eq(uploads.packageId, packageId), eq(uploads.tenantId, tenantId))
const isUpload = (ref: UploadRef) => and(eq(uploads.id, ref.uploadId), ofPackage(ref))

const packageInState = (db: Db, ref: PackageRef, state: Package['state'], storageKey?: string) =>
  db
    .select({ one: sql`1` })
    .from(packages)
    .where(
      and(
        isPackage(ref),
        eq(packages.state, state),
        storageKey === undefined ? undefined : eq(packages.storageKey, storageKey),
      ),
    )

/** False if the package is gone, is no longer a draft, or has `MAX_OPEN_UPLOADS` uploads. */
export async function insertUpload(db: Db, upload: Upload): Promise<boolean> {
  const written = await db.run(sql`
    INSERT INTO uploads (id, tenant_id, package_id, r2_upload_id, storage_key, filename, size, part_size, sha256,
      state, created_at)
    SELECT ${upload.id}, tenant_id, id, ${upload.r2UploadId}, ${upload.storageKey}, ${upload.filename},
      ${upload.size}, ${upload.partSize}, ${upload.sha256}, 'open', ${upload.createdAt}
    FROM packages WHERE id = ${upload.packageId} AND tenant_id = ${upload.tenantId} AND state = 'draft'
      AND (SELECT count(*) FROM uploads WHERE package_id = packages.id) < ${MAX_OPEN_UPLOADS}`)
  return written.meta.changes > 0
}

export const findUpload = (db: Db, ref: UploadRef): Promise<Upload | undefined> =>
  db.select().from(uploads).where(isUpload(ref)).get()

export const listUploads = (db: Db, ref: PackageRef): Promise<Upload[]> =>
  db.select().from(uploads).where(ofPackage(ref))

export const listUploadsBefore = (db: Db, ref: PackageRef, time: number): Promise<Upload[]> =>
  db
    .select()
    .from(uploads)
    .where(and(ofPackage(ref), eq(uploads.state, 'open'), lt(uploads.createdAt, time)))

/** The upload whose file is being verified for the package, if any. */
export const findCompletedUpload = async (db: Db, ref: PackageRef) =>
  db
    .select({ upload: uploads, pkg: packages })
    .from(packages)
    .innerJoin(uploads, and(ofPackage(ref), eq(uploads.storageKey, packages.storageKey)))
    .where(and(isPackage(ref), eq(packages.state, 'verifying')))
    .get()

/** The parts that arrived, by number. The caller got the upload's id from a query with the tenant. */
export const listParts = (db: Db, uploadId: string): Promise<UploadPart[]> =>
  db.select().from(uploadParts).where(eq(uploadParts.uploadId, uploadId)).orderBy(asc(uploadParts.part))

/** Records a part that arrived, for the first time or again. False if the upload is no longer open. */
export async function savePart(db: Db, ref: UploadRef, part: Omit<UploadPart, 'uploadId'>): Promise<boolean> {
  const written = await db.run(sql`
    INSERT INTO upload_parts (upload_id, part, etag, size)
    SELECT id, ${part.part}, ${part.etag}, ${part.size} FROM uploads
    WHERE id = ${ref.uploadId} AND package_id = ${ref.packageId} AND tenant_id = ${ref.tenantId} AND state = 'open'
    ON CONFLICT (upload_id, part) DO UPDATE SET etag = excluded.etag, size = excluded.size`)
  return written.meta.changes > 0
}

/**
 * Makes the package `verifying` and the upload `completed`: its file is whole in the bucket. False if the package is no
 * longer a draft or the upload is not open.
 */
export async function startVerifying(db: Db, ref: UploadRef, upload: Upload): Promise<boolean> {
  const { storageKey } = upload
  const isOpen = db
    .select({ one: sql`1` })
    .from(uploads)
    .where(and(isUpload(ref), eq(uploads.state, 'open')))
  const [started] = await db.batch([
    db
      .update(packages)
      .set({ state: 'verifying', storageKey, error: null })
      .where(and(isPackage(ref), eq(packages.state, 'draft'), exists(isOpen)))
      .returning({ id: packages.id }),
    db
      .update(uploads)
      .set({ state: 'completed' })
      .where(and(isUpload(ref), exists(packageInState(db, ref, 'verifying', storageKey)))),
  ])
  return started.length > 0
}

const isVerifiedBy = (ref: PackageRef, storageKey: string) =>
  and(isPackage(ref), eq(packages.state, 'verifying'), eq(packages.storageKey, storageKey))

/** Makes the package ready with the verified file. Writes nothing if it is gone or verifies another upload by now. */
export const endVerifying = (db: Db, ref: PackageRef, file: StoredFile) =>
  db
    .update(packages)
    .set({ ...file, state: 'ready', error: null })
    .where(isVerifiedBy(ref, file.storageKey))

/** Makes the package a draft again, with the reason in `error`, and deletes the upload's rows. */
export async function failVerifying(db: Db, ref: PackageRef, upload: Upload, error: string): Promise<void> {
  await db.batch([
    db
      .update(packages)
      .set({ state: 'draft', storageKey: null, error })
      .where(isVerifiedBy(ref, upload.storageKey)),
    ...deleteStatements(db, { ...ref, uploadId: upload.id }),
  ])
}

const deleteStatements = (db: Db, ref: UploadRef) =>
  [
    db
      .delete(uploadParts)
      .where(
        and(
          eq(uploadParts.uploadId, ref.uploadId),
          exists(db.select({ one: sql`1` }).from(uploads).where(isUpload(ref))),
        ),
      ),
    db.delete(uploads).where(isUpload(ref)),
  ] as const

/** Deletes the rows of an upload and its parts, whatever its state. */
export const deleteUpload = (db: Db, ref: UploadRef) => db.batch(deleteStatements(db, ref))

/** Deletes the rows of an upload that is still open; false if it is not. */
export async function deleteOpenUpload(db: Db, ref: UploadRef): Promise<boolean> {
  const deleted = await db
    .delete(uploads)
    .where(and(isUpload(ref), eq(uploads.state, 'open')))
    .returning({ id: uploads.id })
  if (deleted.length === 0) return false
  await db.delete(uploadParts).where(eq(uploadParts.uploadId, ref.uploadId))
  return true
}
