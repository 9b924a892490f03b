/** How often a download that is under way is asked after; so long it may go on after its task was paused. */
const LOOK_EVERY_MS = 5_000
/** So often in a row the question may fail: nobody's download ends because an object moved. */
const MAX_UNANSWERED = 12

export interface Watch {
  /** The first byte is on its way. */
  began: () => void
  /** The last one was taken. */
  completed: () => void
  /** May it go on? Rejects where nobody can say. */
  isAllowed: () => Promise<boolean>
}

/**
 * Copies a body to the client, chunk by chunk as it takes them. Ends it, so that the client sees it cut off, once it
 * is no longer allowed; a client that goes away ends the reading.
 */
export async function copy(
  from: ReadableStream<Uint8Array>,
  to: WritableStream<Uint8Array>,
  watch: Watch,
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
