import { stringify } from 'csv-stringify/sync'
import type { DevicePage, DeviceSummary } from './task-view.ts'

const COLUMNS = [
  'number',
  'name',
  'module',
  'fromVersion',
  'targetVersion',
  'status',
  'step',
  'description',
  'pushes',
  'attempt',
  'rolledBack',
  'updatedAt',
  'code',
  'cause',
] as const satisfies (keyof DeviceSummary)[]

/** A million devices are 200 calls, of the 1,000 that a request may make. */
const PAGE_SIZE = 5000

/**
 * A task's devices as CSV (RFC 4180), a page at a time as the reader takes it. Throws if the first page cannot be read;
 * a later one that cannot be cuts the answer off.
 */
export async function reportCsv(
  readPage: (after: string, limit: number) => Promise<DevicePage>,
): Promise<ReadableStream> {
  let next: DevicePage | undefined = await readPage('', PAGE_SIZE)
  let after = next.nextCursor
  const encoder = new TextEncoder()
  return new ReadableStream({
    start: (controller) => controller.enqueue(encoder.encode(toCsv([COLUMNS]))),
    async pull(controller) {
      const { items, nextCursor } = next ?? (await readPage(after ?? '', PAGE_SIZE))
      next = undefined
      after = nextCursor
      if (items.length > 0) controller.enqueue(encoder.encode(toCsv(items.map(toRecord))))
      if (nextCursor === null) controller.close()
    },
  })
}

/** As texts, so that a negative step is escaped too: a spreadsheet would run it as a formula. */
const toRecord = (device: DeviceSummary): string[] => COLUMNS.map((column) => String(device[column] ?? ''))

const toCsv = (records: readonly (readonly string[])[]): string =>
  stringify(records as string[][], {
    record_delimiter: 'windows',
    // The library quotes a field only for the whole record delimiter.
    quoted_match: /[\r\n]/,
    // A cell that begins with = + - @, a tab or CR gets a leading '.
    escape_formulas: true,
  })
