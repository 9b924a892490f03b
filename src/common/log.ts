// Every log of the Worker is one JSON line: `level`, a stable `code`, and what it concerns. No tokens, no links.

type Fields = Record<string, unknown>

/** Something failed that an operator of the installation may have to look at. */
export const logError = (code: string, fields: Fields = {}): void =>
  console.error(JSON.stringify({ level: 'error', code, ...fields }))

/** What an error says of itself, safely: a failed query's own message quotes its parameters, tokens among them. */
export function toError(error: unknown): string {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error
  return String(cause)
}
