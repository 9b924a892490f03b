import type { Env } from '../../src/common/env.ts'
import { createLinkCache } from '../../src/links/links.ts'
import { makeFirmware } from '../fleet/firmware.ts'
import { type BenchFleet, rate } from './fleet.ts'
import type { Local } from './local.ts'

const LINKS = 5_000
const UPLOAD_BYTES = 64 * 1024 * 1024
const MB = 1e6

/** Presigned links a second, each for another file so that none is shared; the Worker's code, run in Node. */
export async function presign(): Promise<number> {
  const env = {
    R2_S3_ENDPOINT: 'https://account.r2.cloudflarestorage.com',
    R2_BUCKET: 'packages',
    R2_ACCESS_KEY_ID: 'id',
    R2_SECRET_ACCESS_KEY: 'secret',
  } as Env
  const link = createLinkCache()
  const since = performance.now()
  for (let n = 0; n < LINKS; n++) await link(env, `packages/${n}`, 86_400, Date.now())
  return rate(LINKS, since)
}

let version = 0

/** MB a second of an upload in one request, its digest included, until the package is ready. */
export async function upload({ api }: Local, { productId }: BenchFleet): Promise<number> {
  const name = `v9.0.${++version}`
  const pkg = await api.createPackage({ productId, name, version: name })
  const file = makeFirmware(name, UPLOAD_BYTES)
  const since = performance.now()
  const { state } = await api.uploadFile(pkg.id, 'large.bin', file)
  if (state !== 'ready') throw new Error(`the package is ${state}`)
  return Math.round(UPLOAD_BYTES / MB / ((performance.now() - since) / 1000))
}
