import { invalid } from '../common/errors.ts'

// Which columns of a file are meant, however a spreadsheet or another server spells them.

export type Field = 'number' | 'name' | 'accessToken' | 'tags'

/** Without case, blanks, `_` and `-`. */
const SPELLINGS: ReadonlyMap<string, Field> = new Map([
  ['number', 'number'],
  ['devicenumber', 'number'],
  ['name', 'name'],
  ['devicename', 'name'],
  ['accesstoken', 'accessToken'],
  ['token', 'accessToken'],
  ['tags', 'tags'],
  ['tag', 'tags'],
])

const MAX_IGNORED = 50
const MAX_IGNORED_LENGTH = 64

/** What a column or key stands for; undefined for any other, which is added to `ignored` for the answer. */
export function fieldOf(name: string, ignored: Set<string>): Field | undefined {
  const field = SPELLINGS.get(name.toLowerCase().replaceAll(/[\s_-]/g, ''))
  const short = name.trim().slice(0, MAX_IGNORED_LENGTH)
  if (field === undefined && short !== '' && ignored.size < MAX_IGNORED) ignored.add(short)
  return field
}

/** The columns of a CSV's header. 422 if there is no number, or a column is there twice. */
export function readHeader(cells: string[], ignored: Set<string>): (Field | undefined)[] {
  const fields = cells.map((cell) => fieldOf(cell, ignored))
  const twice = fields.find((field, index) => field && fields.indexOf(field) !== index)
  if (twice) {
    const names = cells.filter((_, index) => fields[index] === twice).map((cell) => `"${cell.slice(0, 64)}"`)
    throw invalid([{ path: 'header', message: `two columns for one field: ${names.join(', ')}` }])
  }
  if (!fields.includes('number')) throw invalid([{ path: 'header', message: 'no column "number"' }])
  return fields
}
