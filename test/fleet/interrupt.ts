/** Returns a signal that aborts at the first Ctrl-C or SIGTERM; a second one ends the process. */
export function interruptSignal(): AbortSignal {
  const interrupt = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => interrupt.abort())
  return interrupt.signal
}
