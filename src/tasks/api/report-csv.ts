import type { DevicePage, DeviceSummary } from '../object/task-view.ts'

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

const PAGE_SIZE = 1000

/** A task's devices as CSV (RFC 4180), a page at a time as the reader takes it. */
export function reportCsv(readPage: (after: string, limit: number) => Promise<DevicePage>): ReadableStream {
  let after: string | null = ''
  const encoder = new TextEncoder()
  return new ReadableStream({
    start: (controller) => controller.enqueue(encoder.encode(`${COLUMNS.join(',')}\r\n`)),
    async pull(controller) {
      const { items, nextCursor }: DevicePage = await readPage(after ?? '', PAGE_SIZE)
      after = nextCursor
      if (items.length > 0) controller.enqueue(encoder.encode(items.map(line).join('')))
      if (nextCursor === null) controller.close()
    },
  })
}

const line = (device: DeviceSummary) => `${COLUMNS.map((column) => cell(device[column])).join(',')}\r\n`

/** A cell that a spreadsheet would run as a formula gets a leading `'`, a negative step too (API.md). */
function cell(value: string | number | boolean | null): string {
  const plain = value === null ? '' : String(value)
  const text = /^[=+\-@\t\r]/.test(plain) ? `'${plain}` : plain
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}
