/**
 * Reads the JSON of devices, also where it is damaged (src/protocol/README.md#damaged-messages): a failure that a
 * device reports must not be lost for what is wrapped around it. Pure.
 */

/** A JSON number as it was written, digit for digit. */
export class ExactNumber {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

export interface DeviceJson {
  /** Numbers in it are `ExactNumber`. */
  value: unknown
  /** True if it was no JSON and its fields were looked up one by one. */
  isDamaged: boolean
}

/** Undefined if nothing of it can be read. */
export function readDeviceJson(payload: Uint8Array): DeviceJson | undefined {
  const text = trim(decode(payload))
  const value = parse(text) ?? parse(repair(text))
  if (value !== undefined) return { value, isDamaged: false }
  const fields = findFields(text)
  return fields && { value: fields, isDamaged: true }
}

// ---- Characters -----------------------------------------------------------------------------------------

/** In this order: most bytes are valid in the later ones. Latin-1 takes any. */
const ENCODINGS = ['utf-8', 'gb18030', 'latin1'].map(
  (name) => new TextDecoder(name, { fatal: true, ignoreBOM: false }),
)

function decode(payload: Uint8Array): string {
  for (const encoding of ENCODINGS) {
    try {
      return encoding.decode(payload)
    } catch {
      // The next one.
    }
  }
  return ''
}

const BLANK = /[\s\0\ufeff]/

/** Cuts blanks, byte order marks, and the zeros of a buffer of fixed size, around a text. */
export function trim(text: string): string {
  let from = 0
  let to = text.length
  while (from < to && BLANK.test(text[from]!)) from++
  while (to > from && BLANK.test(text[to - 1]!)) to--
  return text.slice(from, to)
}

// ---- JSON -----------------------------------------------------------------------------------------------

/** Undefined if the text is no JSON. */
function parse(text: string): unknown {
  try {
    return JSON.parse(text, exactNumber)
  } catch {
    return undefined
  }
}

const exactNumber = (_key: string, value: unknown, context?: { source?: string }) =>
  typeof value === 'number' ? new ExactNumber(context?.source ?? String(value)) : value

const CONTROL = /\p{Cc}/u
const ESCAPE = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y

/** Escapes raw control characters and single backslashes in strings. One pass: a stranger chooses the text. */
function repair(text: string): string {
  let repaired = ''
  let isInString = false
  for (let at = 0; at < text.length; at++) {
    const character = text[at]!
    if (character === '"') isInString = !isInString
    if (!isInString || (character !== '\\' && !CONTROL.test(character))) {
      repaired += character
      continue
    }
    ESCAPE.lastIndex = at
    const sequence = ESCAPE.exec(text)?.[0]
    if (sequence === undefined) {
      repaired += character === '\\' ? '\\\\' : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
    } else {
      repaired += sequence
      at += sequence.length - 1
    }
  }
  return repaired
}

// ---- Fields one by one ----------------------------------------------------------------------------------

const FIELDS = ['step', 'version', 'module', 'desc'] as const
type Field = (typeof FIELDS)[number]

/** Whole strings without escapes, and whole numbers; what follows them shows that nothing was cut off. */
const VALUE = String.raw`\s*:\s*(?:"([^"\\\p{Cc}]*)"|'([^'\\\p{Cc}]*)'|(-?\d+(?:\.\d+)?)(?=[\s,}\]]))`
/** Keys as they should be are looked for first; others count only if there are none of these. */
const KEYS = ['"$"', "'$'", String.raw`(?<=[{,\s])$`]

const QUOTED_MODULE = /["']module["']\s*:/

/** The fields that are found beyond doubt; undefined if neither a step nor a version is, or if a module is doubtful. */
function findFields(text: string): Partial<Record<Field, string | ExactNumber>> | undefined {
  const found = Object.fromEntries(
    FIELDS.flatMap((field) => {
      const value = findField(text, field)
      return value === undefined ? [] : [[field, value] as const]
    }),
  )
  // A version without its module would be that of the whole firmware: it may stand in the part that was cut off.
  const isCut = found.version !== undefined && !text.trimEnd().endsWith('}')
  const isModuleLost = found.module === undefined && (isCut || QUOTED_MODULE.test(text))
  return isModuleLost || (found.step === undefined && found.version === undefined) ? undefined : found
}

/** Its value, if every place that may be this field says the same. */
function findField(text: string, field: Field): string | ExactNumber | undefined {
  for (const key of KEYS) {
    const name = key.replace('$', field)
    const places = text.match(new RegExp(String.raw`${name}\s*:`, 'g'))
    if (!places) continue
    const values = [...text.matchAll(new RegExp(name + VALUE, 'gu'))].map(([, double, single, number]) =>
      number === undefined ? (double ?? single ?? '') : new ExactNumber(number),
    )
    const [first] = values
    const isSure = values.length === places.length && new Set(values.map(textOf)).size === 1
    return isSure ? first : undefined
  }
  return undefined
}

const textOf = (value: string | ExactNumber) => (typeof value === 'string' ? value : value.text)
