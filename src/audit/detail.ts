/** The parameters of a call, as they get into the log. */
export type Detail = Record<string, unknown>

/** The most that a detail may have as JSON. */
export const MAX_DETAIL_BYTES = 2048
const MAX_TEXT_LENGTH = 256
/** Of a longer list only the length is written. */
const MAX_LIST_LENGTH = 10
/** Deeper than anything that a body may have. */
const MAX_DEPTH = 6

/** Fields whose value is a secret, or may hold one. */
const SECRET = /token|password|secret|credential|authorization|^(api)?_?key$/i
/** A web address may have a secret in its path or query: only its origin is written. */
const ADDRESS = /^(\w+_?)?ur[il]$/i
/** An operator may enter anything here: only the names are written. */
const FREE = 'extData'

const utf8 = new TextEncoder()

/**
 * The parameters without secrets, in at most `MAX_DETAIL_BYTES`: a secret field says only that it was there, a long
 * list its length, a long text its beginning. What does not fit is left out, and `truncated` says so. Null if there are
 * none.
 */
export function toDetail(asked: Detail): Detail | null {
  const detail: Detail = {}
  // Room for `,"truncated":true` and the braces.
  let left = MAX_DETAIL_BYTES - 20
  for (const [name, value] of Object.entries(asked)) {
    if (value === undefined) continue
    const shown = show(name, value, 1)
    const bytes = utf8.encode(`${JSON.stringify(name)}:${JSON.stringify(shown)},`).byteLength
    if (bytes > left) detail.truncated = true
    else {
      detail[name] = shown
      left -= bytes
    }
  }
  return Object.keys(detail).length > 0 ? detail : null
}

function show(name: string, value: unknown, depth: number): unknown {
  if (value === null || typeof value === 'boolean') return value
  if (SECRET.test(name)) return '(secret)'
  if (typeof value === 'number') return name.endsWith('At') ? new Date(value).toISOString() : value
  if (typeof value === 'string') return ADDRESS.test(name) ? originOf(value) : cut(value)
  if (Array.isArray(value)) {
    if (value.length > MAX_LIST_LENGTH || depth >= MAX_DEPTH) return { length: value.length }
    return value.map((item) => show(name, item, depth + 1))
  }
  if (typeof value !== 'object') return null
  if (name === FREE) return show('names', Object.keys(value), depth + 1)
  if (depth >= MAX_DEPTH) return '…'
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .map(([key, item]) => [key, show(key, item, depth + 1)]),
  )
}

const cut = (text: string) => (text.length > MAX_TEXT_LENGTH ? `${text.slice(0, MAX_TEXT_LENGTH)}…` : text)

const originOf = (text: string) => (URL.canParse(text) ? new URL(text).origin : '(not an address)')
