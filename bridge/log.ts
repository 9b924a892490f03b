import { type Logger, pino } from 'pino'

export type Log = Logger

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

/** JSON lines on stdout. */
export const createLog = (level: string): Log =>
  pino({
    level,
    base: { app: 'bridge' },
    redact: { paths: SECRET.flatMap((name) => [name, `*.${name}`]), censor: '[redacted]' },
  })

/** For what may happen thousands of times: writes at most one line per `everyMs`, with the count since the last. */
export function limited(write: (fields: { times: number }) => void, everyMs = 10_000): () => void {
  let times = 0
  let quietUntil = 0
  return () => {
    times++
    const now = performance.now()
    if (now < quietUntil) return
    quietUntil = now + everyMs
    write({ times })
    times = 0
  }
}
