/**
 * The path of the first number under `key` that a JavaScript number cannot hold exactly; undefined if all can be held.
 * `json` is valid JSON. What an operator enters for devices is passed on digit for digit, or refused.
 */
export function inexactNumber(json: string, key: string): string | undefined {
  let found: string | undefined
  const value: unknown = JSON.parse(json, (_name: string, value: unknown, context?: { source?: string }) => {
    if (typeof value !== 'number') return value
    return isExact(context?.source ?? '', value) ? value : INEXACT
  })
  const look = (value: unknown, path: string): void => {
    if (found !== undefined || typeof value !== 'object' || value === null) return
    if (value === INEXACT) found = path
    else for (const [name, part] of Object.entries(value)) look(part, `${path}.${name}`)
  }
  if (typeof value === 'object' && value !== null) look((value as Record<string, unknown>)[key], key)
  return found
}

const INEXACT = Object.freeze({})

/** Is the number, as it would be written again, of the same value as its source text? */
const isExact = (source: string, value: number) =>
  Number.isFinite(value) && digitsOf(source) === digitsOf(JSON.stringify(value))

/** A number's digits without zeros at the ends, and the power of ten: equal for equal values. */
function digitsOf(text: string): string {
  const [, sign, whole = '', fraction = '', exponent = '0'] = NUMBER.exec(text) ?? []
  const digits = (whole + fraction).replace(/^0+/, '')
  const short = digits.replace(/0+$/, '')
  if (short === '') return '0'
  return `${sign}${short}e${Number(exponent) - fraction.length + digits.length - short.length}`
}

const NUMBER = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/
