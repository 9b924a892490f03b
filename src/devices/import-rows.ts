import { CsvError, parse } from 'csv-parse'
import { z } from 'zod'
import { AppError, invalid } from '../common/errors.ts'
import { fieldErrors, name } from '../http/openapi.ts'
import { number, tags, topicName } from './device.ts'
import { type Field, fieldOf, readHeader } from './import-columns.ts'
import { type Delimiter, delimiterOf, textOf } from './import-text.ts'

/** The longest line, or CSV record, in UTF-16 units. */
const MAX_LINE_LENGTH = 64 * 1024
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

/**
 * Reads a CSV as it arrives. The header has at least `number`; columns come in any order, unknown ones are added to
 * `ignored`. Cells are separated by commas, semicolons or tabs.
 */
export async function* readCsv(
  body: ReadableStream<Uint8Array>,
  ignored: Set<string>,
): AsyncGenerator<ReadRow> {
  let columns: (Field | undefined)[] | undefined
  for await (const { line, cells } of recordsOf(body)) {
    if (columns) yield checkRow(line, fromCells(columns, cells))
    else columns = readHeader(cells, ignored)
  }
  if (!columns) throw invalid([{ path: 'header', message: 'the file is empty' }])
}

interface CsvRecord {
  /** The line that the record ends on. */
  line: number
  cells: string[]
}

async function* recordsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<CsvRecord> {
  const text = textOf(body)
  // The first line says how to read the rest.
  let start = ''
  for (;;) {
    const { value, done } = await text.next()
    start += value ?? ''
    if (done || LINE_END.test(start) || start.length > MAX_LINE_LENGTH) break
  }
  const [firstLine = ''] = start.split(LINE_END)
  const { delimiter, hasSeparatorLine } = delimiterOf(firstLine)
  const reader = csvReader(delimiter, hasSeparatorLine ? 1 : 0)
  yield* await reader.read(hasSeparatorLine ? start.slice(firstLine.length).replace(LINE_END, '') : start)
  for await (const chunk of text) yield* await reader.read(chunk)
  yield* await reader.end()
}

const LINE_END = /\r\n|\n|\r/

/** csv-parse, fed piece by piece. Lines are counted from `linesBefore`. */
function csvReader(delimiter: Delimiter['delimiter'], linesBefore: number) {
  // Collected by `on_record`: a parser that fails discards the records that were not yet read from it.
  let records: CsvRecord[] = []
  let countedTwice = 0
  const lineOf = (lines: number) => lines + linesBefore - countedTwice
  const parser = parse({
    delimiter,
    trim: true,
    relax_quotes: true,
    relax_column_count: true,
    skip_empty_lines: true,
    record_delimiter: ['\r\n', '\n', '\r'],
    max_record_size: MAX_LINE_LENGTH,
    on_record: (cells: string[], { lines }) => {
      // The parser counts a CR LF inside quotes as two lines.
      countedTwice += cells.join('').match(/\r\n/g)?.length ?? 0
      records.push({ line: lineOf(lines), cells })
      return null
    },
  })
  // The callbacks of `write` and `end` get the same error; without a listener the event would be thrown too.
  parser.on('error', () => {})
  const taken = async (write: (done: (error?: Error | null) => void) => void) => {
    const error = await new Promise<Error | null | undefined>((resolve) => write(resolve))
    const read = records
    records = []
    return withFault(read, error)
  }
  function* withFault(read: CsvRecord[], error: Error | null | undefined) {
    yield* read
    if (error instanceof CsvError) {
      throw unreadable(lineOf(Number(error.lines)), CSV_FAULTS[error.code] ?? 'not a CSV')
    }
    if (error) throw error
  }
  return {
    read: (text: string) => taken((done) => parser.write(text, done)),
    end: () => taken((done) => parser.end(done)),
  }
}

const CSV_FAULTS: Record<string, string> = {
  CSV_MAX_RECORD_SIZE: `longer than ${MAX_LINE_LENGTH} characters, or a quote is not closed`,
  CSV_QUOTE_NOT_CLOSED: 'a quote is not closed',
}

/** An empty cell clears a name or the tags; an empty token counts as absent. */
function fromCells(columns: (Field | undefined)[], cells: string[]): Record<string, unknown> {
  const cell = (field: Field) => unescaped(cells[columns.indexOf(field)])
  const tagList = cell('tags')
  return {
    number: cell('number') ?? '',
    name: cell('name') === '' ? null : cell('name'),
    accessToken: cell('accessToken') || undefined,
    tags: tagList
      ?.split(/[;|]/)
      .map((tag) => tag.trim())
      .filter((tag) => tag !== ''),
  }
}

/** What a report escapes so that no spreadsheet takes it for a formula is read back. */
const ESCAPED = /^'[=+\-@\t\r]/
const unescaped = (cell: string | undefined) =>
  cell !== undefined && ESCAPED.test(cell) ? cell.slice(1) : cell

/**
 * Reads one JSON object a line: `{"number","name","accessToken","tags"}`; unknown keys are added to `ignored`. A file
 * without any such line is a 422.
 */
export async function* readNdjson(
  body: ReadableStream<Uint8Array>,
  ignored: Set<string>,
): AsyncGenerator<ReadRow> {
  let line = 0
  let hasObject = false
  for await (const text of linesOf(body)) {
    line += 1
    if (text.trim() === '') continue
    const value = parseJson(text)
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      yield { line, reason: value === undefined ? 'not JSON' : 'not a JSON object' }
      continue
    }
    hasObject = true
    yield fromObject(line, value, ignored)
  }
  if (!hasObject) throw invalid([{ path: 'body', message: 'has no line that is a JSON object' }])
}

/** Undefined if it is no JSON. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function fromObject(line: number, value: object, ignored: Set<string>): ReadRow {
  const row: Record<string, unknown> = {}
  for (const [key, part] of Object.entries(value)) {
    const field = fieldOf(key, ignored)
    if (field === undefined) continue
    if (Object.hasOwn(row, field)) return { line, reason: `${field}: given twice` }
    row[field] = part
  }
  return checkRow(line, row)
}

async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = ''
  let line = 0
  const checkLength = (text: string) => {
    if (text.length > MAX_LINE_LENGTH) throw unreadable(line + 1, `longer than ${MAX_LINE_LENGTH} characters`)
    return text
  }
  for await (const chunk of textOf(body)) {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop() ?? ''
    for (const text of lines) {
      yield checkLength(text)
      line += 1
    }
    checkLength(rest)
  }
  if (rest !== '') yield checkLength(rest)
}

/** How spreadsheets show long numbers; their last digits are lost. */
const SPREADSHEET_NUMBER = /^\d(?:[.,]\d+)?E[+-]\d{2,}$/i

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
  const changed = [row.data.number, row.data.accessToken].find(
    (text) => text && SPREADSHEET_NUMBER.test(text),
  )
  if (changed) {
    return { line, reason: `a spreadsheet has changed this number: ${changed}; format its column as text` }
  }
  return { ...row.data, line }
}
