import { AppError } from '../common/errors.ts'
import { importPage } from './import-page.ts'
import { type ImportRow, isRejected, type RejectedRow, readCsv, readNdjson } from './import-rows.ts'

export const MAX_IMPORT_ROWS = 200_000
/** The answer lists this many rejected rows; further ones are only counted. */
export const MAX_LISTED_REJECTIONS = 1_000
const PAGE_ROWS = 1_000
/** D1 takes 1,000 of one request, which needs some for itself. Only pages of long rows, which hold fewer, can be so many. */
const MAX_STATEMENTS = 960
/** Length of a page's JSON in UTF-16 units: in UTF-8 it stays below the 2 MB that D1 takes as one parameter. */
const PAGE_LENGTH = 500_000
/** Characters that ids, tokens and keys add to a row's own JSON. */
const ROW_OVERHEAD = 150

export interface ImportResult {
  created: number
  updated: number
  rejected: RejectedRow[]
  rejectedCount: number
  /** Columns or keys that mean nothing here, the first 50. */
  ignoredColumns: string[]
}

/**
 * Imports a file of devices into a product while it arrives. Each page of rows is kept, so a file that was cut off
 * can be sent again. `tellChanged` gets the ids of existing devices that changed; null makes the import a trial,
 * which writes nothing. 413 past `MAX_IMPORT_ROWS`, or fewer rows if they are long; 422 from the first line that makes
 * the rest unreadable.
 */
export async function importDevices(
  db: D1Database,
  product: { id: string; tenantId: string },
  body: ReadableStream<Uint8Array>,
  format: 'csv' | 'ndjson',
  now: number,
  tellChanged: ((deviceIds: string[]) => Promise<void>) | null,
): Promise<ImportResult> {
  const result = { created: 0, updated: 0, rejected: [] as RejectedRow[], rejectedCount: 0 }
  const ignored = new Set<string>()
  const firstUse = { number: new Map<string, number>(), token: new Map<string, number>() }
  let page: ImportRow[] = []
  let pageLength = 0
  let rowCount = 0
  let statementCount = 0

  const reject = (row: RejectedRow) => {
    result.rejectedCount += 1
    if (result.rejected.length < MAX_LISTED_REJECTIONS) result.rejected.push(row)
  }
  const flush = async () => {
    if (page.length === 0) return
    const { created, updated, changedIds, rejected, statements } = await importPage(
      db,
      product,
      page,
      now,
      tellChanged === null,
    )
    await tellChanged?.(changedIds)
    result.created += created
    result.updated += updated
    rejected.forEach(reject)
    statementCount += statements
    page = []
    pageLength = 0
  }

  try {
    for await (const row of format === 'csv' ? readCsv(body, ignored) : readNdjson(body, ignored)) {
      rowCount += 1
      if (rowCount > MAX_IMPORT_ROWS || statementCount > MAX_STATEMENTS) throw tooManyRows(row.line)
      const fault = isRejected(row) ? row : repeatsEarlierRow(firstUse, row)
      if (fault) {
        reject(fault)
      } else if (!isRejected(row)) {
        page.push(row)
        pageLength += JSON.stringify(row).length + ROW_OVERHEAD
        if (page.length >= PAGE_ROWS || pageLength >= PAGE_LENGTH) await flush()
      }
    }
  } catch (error) {
    // The error tells the client that the rows before the faulty one were imported.
    if (error instanceof AppError) await flush()
    throw error
  }
  await flush()
  result.rejected.sort((a, b) => a.line - b.line)
  return { ...result, ignoredColumns: [...ignored] }
}

const tooManyRows = (line: number) =>
  new AppError(
    413,
    'import.too_large',
    `An import may have ${MAX_IMPORT_ROWS} rows, or fewer if they are long. Those before line ${line} were imported; send the others in a file of their own.`,
  )

/** Why a row is refused whose number or token an earlier row of the file has; undefined if it is the first. */
function repeatsEarlierRow(
  firstUse: Record<'number' | 'token', Map<string, number>>,
  { line, number, accessToken }: ImportRow,
): RejectedRow | undefined {
  const numberLine = firstUse.number.get(number)
  if (numberLine !== undefined) return { line, reason: `number: line ${numberLine} has it too` }
  const tokenLine = accessToken === undefined ? undefined : firstUse.token.get(accessToken)
  if (tokenLine !== undefined) return { line, reason: `access_token: line ${tokenLine} has it too` }
  firstUse.number.set(number, line)
  if (accessToken !== undefined) firstUse.token.set(accessToken, line)
  return undefined
}
