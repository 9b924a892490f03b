import { open } from 'node:fs/promises'
import { basename } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { SignOptions } from './options.ts'

/** Above this a file goes up in parts. */
const MAX_DIRECT_BYTES = 100 * 1024 * 1024
const MAX_PAGE = 200
const LOOK_EVERY_MS = 1000

/** What is known of the file once it is signed. */
export interface SignedFile {
  size: number
  sha256: string
  publicKey: string
  signature: string
}

interface Package {
  id: string
  module: string
  version: string
  kind: string
  sourceVersion: string | null
  state: string
  error: string | null
  sha256: string | null
  securityCounter: number
  signature: { keyId: string; value: string } | null
}

type Call = <T>(method: string, path: string, body?: object | Uint8Array<ArrayBuffer>) => Promise<T>

/**
 * Makes the package and uploads its file; sent again, it goes on with a draft and leaves a package that is ready as it is.
 * Returns the package's id and the key's. Throws an Error for people.
 */
export async function uploadSigned(
  options: SignOptions & { upload: NonNullable<SignOptions['upload']> },
  file: SignedFile,
  apiKey: string,
): Promise<{ packageId: string; keyId: string }> {
  const call = caller(options.upload.url, apiKey)
  const productId = options.upload.productId ?? (await findProduct(call, options.product))
  const keyId = await findKey(call, productId, file.publicKey)
  const signature = { keyId, value: file.signature }
  const pkg = await ensureDraft(call, productId, options, signature)
  if (pkg.state === 'ready') {
    if (pkg.sha256 === file.sha256 && pkg.signature?.value === file.signature)
      return { packageId: pkg.id, keyId }
    throw new Error(`The product has a package of this version already: ${pkg.id}.`)
  }
  if (file.size <= MAX_DIRECT_BYTES) await putFile(call, pkg.id, options.file, file)
  else await putParts(call, pkg.id, options.file, file)
  return { packageId: pkg.id, keyId }
}

async function findProduct(call: Call, signingName: string): Promise<string> {
  const found: string[] = []
  for await (const product of all<{ id: string; signingName: string }>(call, '/api/v1/products')) {
    if (product.signingName === signingName) found.push(product.id)
  }
  const [id, ...others] = found
  if (id === undefined) throw new Error(`No product has the signing name ${signingName}.`)
  if (others.length > 0)
    throw new Error(`Several have this signing name: say --product-id, ${found.join(' or ')}.`)
  return id
}

async function findKey(call: Call, productId: string, publicKey: string): Promise<string> {
  const path = `/api/v1/products/${productId}/signing-keys`
  for await (const key of all<{ id: string; publicKey: string; retiredAt: string | null }>(call, path)) {
    if (key.publicKey === publicKey && key.retiredAt === null) return key.id
  }
  throw new Error(`The product does not have this key. An admin adds it: ${publicKey}`)
}

async function ensureDraft(
  call: Call,
  productId: string,
  options: SignOptions & { upload: NonNullable<SignOptions['upload']> },
  signature: { keyId: string; value: string },
): Promise<Package> {
  const { module, version, source: sourceVersion, counter: securityCounter } = options
  const { name, signMethod } = options.upload
  const kind = sourceVersion === null ? 'full' : 'diff'
  const fields = {
    productId,
    name,
    version,
    module,
    kind,
    sourceVersion,
    signMethod,
    securityCounter,
    signature,
  }
  try {
    return await call<Package>('POST', '/api/v1/packages', fields)
  } catch (error) {
    if ((error as { code?: string }).code !== 'package.exists') throw error
  }
  for await (const pkg of all<Package>(call, `/api/v1/packages?productId=${productId}`)) {
    const isIt = pkg.module === module && pkg.version === version && pkg.kind === kind
    if (!isIt || pkg.sourceVersion !== sourceVersion) continue
    if (pkg.state !== 'draft') return pkg
    return call<Package>('PUT', `/api/v1/packages/${pkg.id}/signature`, signature)
  }
  throw new Error('The package was deleted just now: try again.')
}

async function putFile(call: Call, packageId: string, path: string, { size }: SignedFile): Promise<void> {
  const filename = encodeURIComponent(basename(path))
  await call('PUT', `/api/v1/packages/${packageId}/file?filename=${filename}`, await readPart(path, 0, size))
}

async function putParts(call: Call, packageId: string, path: string, file: SignedFile): Promise<void> {
  const uploads = `/api/v1/packages/${packageId}/uploads`
  const begun = { size: file.size, sha256: file.sha256, filename: basename(path) }
  const { uploadId, partSize } = await call<{ uploadId: string; partSize: number }>('POST', uploads, begun)
  for (let part = 1, at = 0; at < file.size; part++, at += partSize) {
    const bytes = await readPart(path, at, Math.min(partSize, file.size - at))
    await call('PUT', `${uploads}/${uploadId}/parts/${part}`, bytes)
  }
  await call('POST', `${uploads}/${uploadId}/complete`)
  for (;;) {
    const { state, error } = await call<Package>('GET', `/api/v1/packages/${packageId}`)
    if (state === 'ready') return
    if (state !== 'verifying') throw new Error(error ?? `The package is ${state}.`)
    await delay(LOOK_EVERY_MS)
  }
}

async function readPart(path: string, at: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length)
  await using file = await open(path)
  const { bytesRead } = await file.read(bytes, 0, length, at)
  if (bytesRead < length) throw new Error(`${path} was changed meanwhile.`)
  return bytes
}

async function* all<T>(call: Call, path: string): AsyncGenerator<T> {
  let cursor: string | null = null
  do {
    const query: string = `${path.includes('?') ? '&' : '?'}limit=${MAX_PAGE}${cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`}`
    const page: { items: T[]; nextCursor: string | null } = await call('GET', path + query)
    yield* page.items
    cursor = page.nextCursor
  } while (cursor !== null)
}

/** Calls the API; throws an Error with the problem's `code` and what it says. */
function caller(url: string, apiKey: string): Call {
  return async <T>(method: string, path: string, body?: object | Uint8Array<ArrayBuffer>) => {
    const isBytes = body instanceof Uint8Array
    const type = isBytes ? 'application/octet-stream' : 'application/json'
    const response = await fetch(url + path, {
      method,
      headers: { authorization: `Bearer ${apiKey}`, ...(body && { 'content-type': type }) },
      ...(body && { body: isBytes ? body : JSON.stringify(body) }),
    }).catch((cause) => {
      throw new Error(`${url} does not answer.`, { cause })
    })
    const text = await response.text()
    if (response.ok) return (text === '' ? undefined : JSON.parse(text)) as T
    const { code, detail = text.slice(0, 200), errors = [] } = problemIn(text)
    const faults = errors.map(({ path, message }) => `\n  ${path}: ${message}`).join('')
    throw Object.assign(new Error(`${response.status} ${detail}${faults}`), { code })
  }
}

function problemIn(text: string): {
  code?: string
  detail?: string
  errors?: { path: string; message: string }[]
} {
  try {
    return JSON.parse(text)
  } catch {
    return {}
  }
}
