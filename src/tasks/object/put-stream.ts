/** R2 wants all parts but the last to have one size. */
const PART_BYTES = 8 * 1024 * 1024

/** Stores a stream of unknown length: R2 takes a body only with its length, or in parts. */
export async function putStream(bucket: R2Bucket, key: string, stream: ReadableStream): Promise<void> {
  let upload: R2MultipartUpload | undefined
  try {
    const stored: R2UploadedPart[] = []
    for await (const { bytes, isLast } of partsOf(stream)) {
      if (isLast && !upload) {
        await bucket.put(key, bytes)
        return
      }
      upload ??= await bucket.createMultipartUpload(key)
      stored.push(await upload.uploadPart(stored.length + 1, bytes))
    }
    await upload!.complete(stored)
  } catch (error) {
    await upload?.abort().catch(() => {})
    throw error
  }
}

/** All of `PART_BYTES` but the last. */
async function* partsOf(
  stream: ReadableStream<Uint8Array>,
): AsyncGenerator<{ bytes: Uint8Array; isLast: boolean }> {
  let part = new Uint8Array(PART_BYTES)
  let filled = 0
  for await (const chunk of stream) {
    for (let at = 0; at < chunk.length; ) {
      if (filled === PART_BYTES) {
        yield { bytes: part, isLast: false }
        part = new Uint8Array(PART_BYTES)
        filled = 0
      }
      const taken = chunk.subarray(at, at + PART_BYTES - filled)
      part.set(taken, filled)
      filled += taken.length
      at += taken.length
    }
  }
  yield { bytes: part.subarray(0, filled), isLast: true }
}
