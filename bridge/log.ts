import { type DestinationStream, pino } from 'pino'

export interface LogFields {
  /** What happened, as a stable word that operators may search for and alert on. */
  code: `bridge.${string}`
  /** What failed, as text. */
  error?: string | undefined
  [field: string]: unknown
}

type Write = (fields: LogFields, message: string) => void

/** `error`: a person should look. `warn`: something is away or refused, and the bridge copes. `info`: what it does. */
export interface Log {
  error: Write
  warn: Write
  info: Write
}

/** Fields that are censored even if a log call passes them by mistake: secrets, and what devices say. */
const SECRET = [
  'username',
  'password',
  'token',
  'accessToken',
  'authorization',
  'bridgeKey',
  'payload',
  'url',
  'input', // the field of Node's "Invalid URL" error
]

/** Writes JSON lines, to stdout unless tests say otherwise: `{"level", "time", "code", …fields, "message"}`. */
export const createLog = (level: string, destination: DestinationStream = pino.destination(1)): Log =>
  pino(
    {
      level,
      base: null,
      messageKey: 'message',
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: SECRET.flatMap((name) => [name, `*.${name}`]), censor: '[redacted]' },
    },
    destination,
  )

/** The log fields of an unexpected error. */
export const errorFields = (error: unknown): { error: string; stack?: string | undefined } =>
  error instanceof Error ? { error: String(error), stack: error.stack } : { error: String(error) }

/** For what may happen thousands of times: writes at most one line per `everyMs`, with the count since the last. */
export function limited(write: (times: number) => void, everyMs = 10_000): () => void {
  let times = 0
  let quietUntil = 0
  return () => {
    times++
    const now = performance.now()
    if (now < quietUntil) return
    quietUntil = now + everyMs
    write(times)
    times = 0
  }
}
