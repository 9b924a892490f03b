type Fields = Record<string, unknown>

/**
 * Writes one line of JSON, `{level, code, ...fields}`, to the Worker's log. `code` is stable, such as `hub.alarm`. The
 * fields have no secrets: no tokens, passwords, links or payloads; an error goes through `errorFields`.
 *
 * @example logError('receive.task_failed', { taskId, ...errorFields(error) })
 */
export const logError = (code: string, fields: Fields = {}): void =>
  console.error(line('error', code, fields))

/** Like `logError`, for what somebody should look at although nothing failed. */
export const logWarning = (code: string, fields: Fields = {}): void =>
  console.warn(line('warn', code, fields))

const line = (level: string, code: string, fields: Fields) => JSON.stringify({ level, code, ...fields })

// A type, not an interface, so that it fits `Fields`.
export type ErrorFields = {
  /** The error's name, such as `TypeError`. */
  error: string
  message: string
  cause?: string
  /** The first line of its stack. */
  at?: string
}

/** Drizzle's message for a query that failed. It quotes the parameters, tokens among them; its cause quotes none. */
const FAILED_QUERY = /\bFailed query\b/

/** What is safe to log of whatever was thrown. */
export function errorFields(error: unknown): ErrorFields {
  if (!(error instanceof Error)) return { error: typeof error, message: safeMessage(String(error)) }
  const at = firstFrame(error)
  return {
    error: error.name,
    message: safeMessage(error.message),
    ...(error.cause !== undefined && { cause: safeMessage(messageOf(error.cause)) }),
    ...(at !== undefined && { at }),
  }
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error))

const safeMessage = (message: string) => (FAILED_QUERY.test(message) ? 'Failed query' : message)

/** A stack begins with the message, whose own lines are no frames. */
function firstFrame({ stack = '', message }: Error): string | undefined {
  return stack
    .slice(stack.indexOf(message) + message.length)
    .split('\n')
    .map((text) => text.trim())
    .find((text) => text.startsWith('at '))
}
