import { CsvError, parse } from 'csv-parse'
import { z } from 'zod'
import { AppError, badRequest, invalid } from '../common/errors.ts'
import { fieldErrors, name } from '../http/openapi.ts'
import { number, tags, topicName } from './device.ts'

/** The longest line, or CSV record, in UTF-16 units. */
const MAX_LINE_LENGTH = 64 * 1024
const COLUMNS = ['number', 'name', 'access_token', 'tags'] as const
/** The character that a decoder puts in place of bytes that are not UTF-8. */
const REPLACEMENT = '\uFFFD'

/** One device of a file. An absent field stays as it is; a null name clears the name. */
const importRow = z.object({
  number,
  name: name.nullable().optional(),
  accessToken: topicName.optional(),
  tags: tags.optional(),
})

export type ImportRow = z.output<typeof importRow> & { line: number }
export interface RejectedRow {
  line: number
  reason: string
}
type ReadRow = ImportRow | RejectedRow

export const isRejected = (row: ReadRow): row is RejectedRow => 'reason' in row

/** Ends the import at this line; the rows before it stay imported, and the file can be sent again. */
const unreadable = (line: number, what: string) =>
  new AppError(422, 'import.unreadable', `Line ${line}: ${what}. The lines before it were imported.`, {
    errors: [{ path: `line ${line}`, message: what }],
  })

async function* bytesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* body
  } catch {
    throw badRequest(
      'import.cut_off',
      'The file broke off. What was read before stays imported; send it again.',
    )
  }
}

/** Reads a CSV as it arrives. The header has at least `number`; columns come in any order, unknown ones are ignored. */
export async function* readCsv(body: ReadableStream<Uint8Array>): AsyncGenerator<ReadRow> {
  let columns: Column[] | undefined
  for await (const { line, cells } of recordsOf(body)) {
    if (columns) yield checkRow(line, fromCells(columns, cells))
    else columns = readHeader(cells)
  }
  if (!columns) throw invalid([{ path: 'header', message: 'the file is empty' }])
}

interface CsvRecord {
  /** The line that the record ends on. */
  line: number
  cells: string[]
}

async function* recordsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<CsvRecord> {
  // Collected by `on_record`: a parser that fails discards the records that were not yet read from it.
  let records: CsvRecord[] = []
  let countedTwice = 0
  const parser = parse({
    bom: true,
    trim: true,
    relax_quotes: true,
    relax_column_count: true,
    skip_empty_lines: true,
    record_delimiter: ['\r\n', '\n', '\r'],
    max_record_size: MAX_LINE_LENGTH,
    on_record: (cells: string[], { lines }) => {
      // The parser counts a CR LF inside quotes as two lines.
      countedTwice += cells.join('').match(/\r\n/g)?.length ?? 0
      records.push({ line: lines - countedTwice, cells })
      return null
    },
  })
  // The callbacks of `write` and `end` get the same error; without a listener the event would be thrown too.
  parser.on('error', () => {})
  const parsed = (write: (done: (error?: Error | null) => void) => void) =>
    new Promise<Error | null | undefined>((resolve) => write(resolve))
  const takeRecords = function* (error: Error | null | undefined) {
    yield* records
    records = []
    if (error instanceof CsvError) {
      throw unreadable(Number(error.lines) - countedTwice, CSV_FAULTS[error.code] ?? 'not a CSV')
    }
    if (error) throw error
  }
  for await (const chunk of bytesOf(body))
    yield* takeRecords(await parsed((done) => parser.write(chunk, done)))
  yield* takeRecords(await parsed((done) => parser.end(done)))
}

const CSV_FAULTS: Record<string, string> = {
  CSV_MAX_RECORD_SIZE: `longer than ${MAX_LINE_LENGTH} characters, or a quote is not closed`,
  CSV_QUOTE_NOT_CLOSED: 'a quote is not closed',
}

type Column = (typeof COLUMNS)[number] | undefined

function readHeader(cells: string[]): Column[] {
  const columns = cells.map((cell) => COLUMNS.find((column) => column === cell.toLowerCase()))
  const twice = COLUMNS.find((column) => columns.indexOf(column) !== columns.lastIndexOf(column))
  if (twice) throw invalid([{ path: 'header', message: `two columns "${twice}"` }])
  if (!columns.includes('number')) throw invalid([{ path: 'header', message: 'no column "number"' }])
  return columns
}

/** An empty cell clears a name or the tags; an empty token counts as absent. */
function fromCells(columns: Column[], cells: string[]): Record<string, unknown> {
  const cell = (column: Column) => cells[columns.indexOf(column)]
  const tagList = cell('tags')
  return {
    number: cell('number') ?? '',
    name: cell('name') === '' ? null : cell('name'),
    accessToken: cell('access_token') || undefined,
    tags: tagList
      ?.split(/[;|]/)
      .map((tag) => tag.trim())
      .filter((tag) => tag !== ''),
  }
}

/** Reads one JSON object a line: `{"number","name","accessToken","tags"}`; unknown keys are ignored. */
export async function* readNdjson(body: ReadableStream<Uint8Array>): AsyncGenerator<ReadRow> {
  let line = 0
  for await (const text of linesOf(body)) {
    line += 1
    if (text.trim() === '') continue
    let value: unknown
    try {
      value = JSON.parse(text)
    } catch {
      yield { line, reason: 'not JSON' }
      continue
    }
    yield checkRow(line, value)
  }
}

async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let rest = ''
  let line = 0
  const checkLength = (text: string) => {
    if (text.length > MAX_LINE_LENGTH) throw unreadable(line + 1, `longer than ${MAX_LINE_LENGTH} characters`)
    return text
  }
  for await (const chunk of bytesOf(body)) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = lines.pop() ?? ''
    for (const text of lines) {
      yield checkLength(text)
      line += 1
    }
    checkLength(rest)
  }
  rest += decoder.decode()
  if (rest !== '') yield checkLength(rest)
}

function checkRow(line: number, value: unknown): ReadRow {
  const row = importRow.safeParse(value)
  if (!row.success) {
    const reasons = fieldErrors(row.error).map(({ path, message }) =>
      path ? `${path}: ${message}` : message,
    )
    return { line, reason: reasons.join('; ') }
  }
  if (
    [row.data.number, row.data.name, ...(row.data.tags ?? [])].some((text) => text?.includes(REPLACEMENT))
  ) {
    return { line, reason: 'not UTF-8' }
  }
  return { ...row.data, line }
}
