import { env } from 'cloudflare:workers'
import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'
import { expect, it } from 'vitest'
import { putStream } from '../../../src/tasks/object/put-stream.ts'

const PART = 8 * 1024 * 1024
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

/** The bytes in chunks of a size that fits no part. */
const inChunks = (bytes: Uint8Array) =>
  new ReadableStream<Uint8Array>({
    start(controller) {
      for (let at = 0; at < bytes.length; at += 999_983) controller.enqueue(bytes.slice(at, at + 999_983))
      controller.close()
    },
  })

it.each([0, 1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 5])(
  'a stream of %i bytes is stored as it is, whatever its length',
  async (length) => {
    const bytes = new Uint8Array(length).map((_, index) => (index * 31) % 251)
    await putStream(env.PACKAGES, `test/${length}`, inChunks(bytes))
    const object = await env.PACKAGES.get(`test/${length}`)
    expect(sha256(Buffer.from(await object!.arrayBuffer()))).toBe(sha256(bytes))
  },
)

it('a stream that fails stores nothing', async () => {
  const failing = new ReadableStream<Uint8Array>({
    pull(controller) {
      controller.error(new Error('cut off'))
    },
  })
  await expect((async () => putStream(env.PACKAGES, 'test/failed', failing))()).rejects.toThrow('cut off')
  expect(await env.PACKAGES.head('test/failed')).toBeNull()
})
