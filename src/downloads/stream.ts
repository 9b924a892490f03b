/** The task is asked this often whether a download may go on: after a pause it ends within this time. */
const LOOK_EVERY_MS = 5_000
/** A download ends after this many failed questions in a row: one minute outlasts the restart of an object. */
const MAX_UNANSWERED = 12

export interface DownloadWatch {
  /** Called when the client has taken the first chunk. */
  began: () => void
  /** Called when the client has taken the last byte. */
  completed: () => void
  /** May the download go on? Rejects if the task cannot be asked. */
  isAllowed: () => Promise<boolean>
}

/**
 * Copies a body to the client at the client's speed. Once the download is no longer allowed, aborts it, so that the
 * client sees an incomplete answer. If the client goes away, stops reading.
 */
export async function copyWhileAllowed(
  from: ReadableStream<Uint8Array>,
  to: WritableStream<Uint8Array>,
  watch: DownloadWatch,
): Promise<void> {
  const reader = from.getReader()
  const writer = to.getWriter()
  let lookAt = Date.now() + LOOK_EVERY_MS
  let unanswered = 0
  let isFirst = true
  try {
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      if (Date.now() >= lookAt) {
        const isAllowed = await watch.isAllowed().catch(() => undefined)
        unanswered = isAllowed === undefined ? unanswered + 1 : 0
        if (isAllowed === false || unanswered >= MAX_UNANSWERED) throw new Error('the download was stopped')
        lookAt = Date.now() + LOOK_EVERY_MS
      }
      await writer.write(chunk.value)
      if (isFirst) watch.began()
      isFirst = false
    }
    await writer.close()
    watch.completed()
  } catch (error) {
    await Promise.allSettled([reader.cancel(error), writer.abort(error)])
  }
}
