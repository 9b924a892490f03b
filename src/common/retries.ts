import { platformFault } from './platform-faults.ts'

const TRIES = 3
const FIRST_WAIT_MS = 50

/**
 * Makes a call that changes nothing twice: again if the platform lost it, up to three times in all. An overloaded part of
 * the platform is not called again. Throws what the last try threw.
 */
export async function retried<T>(call: () => Promise<T>): Promise<T> {
  for (let tried = 1; ; tried++) {
    try {
      return await call()
    } catch (error) {
      if (tried === TRIES || platformFault(error) !== 'lost') throw error
      await scheduler.wait(FIRST_WAIT_MS * 2 ** (tried - 1) * (1 + Math.random()))
    }
  }
}

type Calls = Record<string, (...args: unknown[]) => unknown>

/**
 * A new stub whose named calls, which change nothing twice, are `retried`, each time by another new stub, since one that
 * failed stays broken.
 */
export function repeating<T extends object>(newStub: () => T, names: readonly (keyof T & string)[]): T {
  const properties = names.map((name) => {
    const value = (...args: unknown[]) => retried(async () => (newStub() as Calls)[name]!(...args))
    return [name, { value }] as const
  })
  // On the stub itself: the platform takes no other object for one.
  return Object.defineProperties(newStub(), Object.fromEntries(properties))
}
