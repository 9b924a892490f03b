import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { startLocal } from './local.ts'

// `npm run bench:upload`: uploads a file in parts and waits until its verification has made the package ready.

const { size: text } = parseArgs({ options: { size: { type: 'string', default: '5' } } }).values
const GB = 1024 ** 3
const MB = 1e6
const size = Math.round(Number(text) * GB)
const TRIES = 3
const POLL_MS = 500

const local = await startLocal({ isMetered: false })
const { api } = local
const { id: productId } = await api.createProduct({ name: 'upload' })
const { id: packageId } = await api.createPackage({ productId, name: 'large', version: 'v1.0.0' })
const path = `/api/v1/packages/${packageId}/uploads`
const block = randomBytes(1024 * 1024)
const digest = createHash('sha256')

/** The bytes of a part; each part differs by its number. */
function bytesOf(part: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = Buffer.alloc(length)
  for (let at = 0; at < length; at += block.length)
    block.copy(bytes, at, 0, Math.min(block.length, length - at))
  bytes.writeUInt32LE(part)
  return new Uint8Array(bytes)
}

async function put(uploadId: string, part: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      return void (await api.call(
        'PUT',
        `${path}/${uploadId}/parts/${part}`,
        bytes,
        'application/octet-stream',
      ))
    } catch (error) {
      if (tries === TRIES) throw error
    }
  }
}

const { uploadId, partSize } = await api.call<{ uploadId: string; partSize: number }>('POST', path, { size })
let since = performance.now()
const seconds = () => (performance.now() - since) / 1000
let peak = 0
for (let part = 1, at = 0; at < size; part++, at += partSize) {
  const bytes = bytesOf(part, Math.min(partSize, size - at))
  digest.update(bytes)
  await put(uploadId, part, bytes)
  peak = Math.max(peak, local.memoryMiB())
}
const uploaded = seconds()
const cpu = local.cpuSeconds()
since = performance.now()
await api.call('POST', `${path}/${uploadId}/complete`)
type Package = { state: string; sign: string | null; error: string | null }
let pkg = await api.call<Package>('GET', `/api/v1/packages/${packageId}`)
while (pkg.state === 'verifying') {
  await sleep(POLL_MS)
  peak = Math.max(peak, local.memoryMiB())
  pkg = await api.call<Package>('GET', `/api/v1/packages/${packageId}`)
}
const isRight = pkg.state === 'ready' && pkg.sign === digest.digest('hex')
console.log('| size | parts | upload s | MB/s | verification s | its CPU s | workerd at most MiB | digest |')
console.log(`|${'---|'.repeat(8)}`)
const cells = [
  `${(size / GB).toFixed(1)} GiB`,
  Math.ceil(size / partSize),
  uploaded.toFixed(1),
  Math.round(size / MB / uploaded),
  seconds().toFixed(1),
  (local.cpuSeconds() - cpu).toFixed(1),
  Math.round(peak),
  isRight ? 'right' : `WRONG: ${pkg.state} ${pkg.error}`,
]
console.log(`| ${cells.join(' | ')} |`)
await local.close()
process.exit(isRight ? 0 : 1)
