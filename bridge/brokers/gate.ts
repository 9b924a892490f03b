/** Makes a function that runs work, at most `limit` at once; further work waits in order. */
export function createGate(limit: number): <T>(work: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = []
  let running = 0
  return async (work) => {
    if (running >= limit) await new Promise<void>((resolve) => waiting.push(resolve))
    else running++
    try {
      return await work()
    } finally {
      // The next in line takes this place over directly, so that new work cannot overtake it.
      const next = waiting.shift()
      if (next) next()
      else running--
    }
  }
}
