import { credentialKey } from '../src/protocol/credentials-feed.ts'

/** Usernames with a live session. The feed names a device only by a salted key, so they can be found by that too. */
export interface Watched {
  add(username: string): void
  remove(username: string): void
  clear(): void
  has(username: string): boolean
  all(): string[]
  ofKey(key: string): string | undefined
  /** Sets the feed's salt; all keys are computed again if it changed. */
  useSalt(salt: string | undefined): void
}

export function createWatched(): Watched {
  const usernames = new Set<string>()
  let byKey = new Map<string, string>()
  let salt: string | undefined

  const put = (username: string) => {
    if (salt !== undefined) byKey.set(credentialKey(salt, username), username)
  }

  return {
    add(username) {
      usernames.add(username)
      put(username)
    },
    remove(username) {
      usernames.delete(username)
      if (salt !== undefined) byKey.delete(credentialKey(salt, username))
    },
    clear() {
      usernames.clear()
      byKey.clear()
    },
    has: (username) => usernames.has(username),
    all: () => [...usernames],
    ofKey: (key) => byKey.get(key),
    useSalt(now) {
      if (now === salt) return
      salt = now
      byKey = new Map()
      usernames.forEach(put)
    },
  }
}
