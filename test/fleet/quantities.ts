// Readers for values of a command line; each throws an Error that says what was expected.

const UNITS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, B: 1, KB: 1000, MB: 1e6 }

/** `5%` or `0.05` → 0.05. */
export function readShare(text: string): number {
  const [, digits, percent] = /^(\d+(?:\.\d+)?)(%?)$/.exec(text.trim()) ?? []
  const share = Number(digits) / (percent ? 100 : 1)
  if (!(share >= 0 && share <= 1)) throw new Error(`"${text}" is no share, such as 5% or 0.05`)
  return share
}

/** `500ms`, `2s`, `1.5m`, `1h`; a bare number is seconds → ms. */
export const readDuration = (text: string) =>
  readQuantity(text, ['ms', 's', 'm', 'h'], 's', 'time, such as 500ms, 2s or 1m')

/** `512`, `100KB`, `1.5MB` → bytes. */
export const readBytes = (text: string) =>
  Math.round(readQuantity(text, ['B', 'KB', 'MB'], 'B', 'number of bytes, such as 500KB or 2MB'))

export function readCount(text: string): number {
  const count = Number(text)
  if (!Number.isSafeInteger(count) || count < 1) throw new Error(`"${text}" is no whole number above 0`)
  return count
}

function readQuantity(
  text: string,
  units: (keyof typeof UNITS)[],
  fallback: keyof typeof UNITS,
  expected: string,
): number {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim()) ?? []
  const known = units.find((name) => name.toLowerCase() === (unit || fallback).toLowerCase())
  if (digits === undefined || known === undefined) throw new Error(`"${text}" is no ${expected}`)
  return Number(digits) * UNITS[known]
}
