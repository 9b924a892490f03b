import { type Logger, pino } from 'pino'

export type Log = Logger

/** Never in a log, whoever puts them there by mistake: what lets one in, and what devices say. */
const SECRET = [
  'username',
  'password',
  'token',
  'accessToken',
  'authorization',
  'bridgeKey',
  'payload',
  'url',
  'input', // what Node's error of a URL that is none has
]

/** JSON lines on stdout. */
export const createLog = (level: string): Log =>
  pino({
    level,
    base: { app: 'bridge' },
    redact: { paths: SECRET.flatMap((name) => [name, `*.${name}`]), censor: '[redacted]' },
  })

/** A log call for what may happen thousands of times: at most one line in `everyMs`, with the count since the last. */
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
