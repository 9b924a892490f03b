import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import timers from 'node:timers/promises'
import { pino } from 'pino'
import { afterEach, beforeEach, expect, it, onTestFinished, vi } from 'vitest'
import { openCredentialStore } from '../../../bridge/credential-store.ts'
import { type Credentials, openCredentials } from '../../../bridge/credentials.ts'
import { credentialKey, type FeedItem, type FeedPage } from '../../../src/protocol/credentials-feed.ts'
import { hashPassword } from '../../../src/protocol/passwords.ts'

const SALT = 'a'.repeat(43)
const OTHER_SALT = 'b'.repeat(43)

let directory: string
let file: string
let opened: Credentials[]
/** The feed's next pages; if there is none, the feed is away. */
let script: FeedPage[]
let asked: (string | undefined)[]
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'credentials-'))
  file = join(directory, 'credentials.db')
  opened = []
  script = []
  asked = []
})
afterEach(async () => {
  for (const credentials of opened) await credentials.close()
  rmSync(directory, { recursive: true })
})

const enabled = (username: string, more: Partial<FeedItem> = {}) => ({
  username,
  passwordHash: null,
  number: null,
  state: 'enabled' as const,
  ...more,
})
const gone = (username: string) => enabled(username, { state: 'gone' })
const page = (
  cursor: string,
  items: ReturnType<typeof enabled>[],
  { salt = SALT, ...more }: Partial<FeedPage> = {},
): FeedPage => ({
  salt,
  items: items.map(({ username, ...item }) => ({ ...item, key: credentialKey(salt, username) })),
  cursor,
  more: false,
  reset: false,
  ...more,
})

/** Opens the credentials and waits until all of these pages were read. */
async function open(...pages: FeedPage[]): Promise<Credentials> {
  script.push(...pages)
  const credentials = openCredentials({
    file,
    origin: 'https://worker default',
    pull: async (after) => {
      asked.push(after)
      return script.shift()
    },
    pollMs: 60_000,
    backoffBaseMs: 60_000,
    log: pino({ level: 'silent' }),
  })
  opened.push(credentials)
  while (script.length > 0) await new Promise((resolve) => setImmediate(resolve))
  await new Promise((resolve) => setImmediate(resolve))
  return credentials
}
const more = async (credentials: Credentials, ...pages: FeedPage[]) => {
  script.push(...pages)
  return credentials.catchUp()
}
const checks = (credentials: Credentials, ...usernames: string[]) =>
  Promise.all(usernames.map((username) => credentials.check(username, '')))

const LONG_PAUSE_MS = 1000
/** Until the test ends only the pauses move the clock, and take no time. Returns how long they were (ms). */
function skipPauses(): number[] {
  const slept: number[] = []
  let now = 0
  const { setTimeout: pause } = timers
  vi.spyOn(performance, 'now').mockImplementation(() => now)
  vi.spyOn(timers, 'setTimeout').mockImplementation(async (ms = 0, value, options) => {
    if (ms > LONG_PAUSE_MS) return pause(ms, value, options)
    slept.push(ms)
    now += ms
    return value as never
  })
  syncBuiltinESMExports()
  onTestFinished(() => {
    vi.restoreAllMocks()
    syncBuiltinESMExports()
  })
  return slept
}

it('tokens are allowed without a password, usernames with the right one, and all others are unknown', async () => {
  const credentials = await open(
    page('1', [enabled('token'), enabled('basic', { passwordHash: await hashPassword('right') })], {
      reset: true,
    }),
  )
  expect(credentials.isComplete()).toBe(true)
  expect(await credentials.check('token', '')).toBe('allow')
  expect(await credentials.check('token', 'x')).toBe('deny')
  expect(await credentials.check('basic', 'right')).toBe('allow')
  expect(await credentials.check('basic', 'right')).toBe('allow')
  expect(await credentials.check('basic', 'wrong')).toBe('deny')
  expect(await credentials.check('basic', '')).toBe('deny')
  expect(await checks(credentials, 'stranger', 'Token')).toEqual(['unknown', 'unknown'])
  expect(await checks(credentials, '', 'a/b', '#', 'x'.repeat(65))).toEqual(Array(4).fill('deny'))
})

it('the credentials file contains no token, and only its owner may read it', async () => {
  const credentials = await open(page('1', [enabled('very-secret')], { reset: true }))
  await credentials.close()
  expect(readFileSync(file).includes('very-secret')).toBe(false)
  expect(statSync(file).mode & 0o077).toBe(0)
})

it('after a restart the feed is read on from where it was, both within a load and after it', async () => {
  const first = await open(page('1', [enabled('one')], { reset: true, more: true }))
  expect(first.isComplete()).toBe(false)
  expect(await checks(first, 'one', 'two')).toEqual(['allow', 'unknown'])
  await first.close()
  asked = []
  const second = await open(page('2', [enabled('two')]))
  expect(asked).toEqual(['1'])
  expect(second.isComplete()).toBe(true)
  expect(await checks(second, 'one', 'two')).toEqual(['allow', 'allow'])
  await second.close()
  asked = []
  const third = await open()
  expect(asked).toEqual(['2'])
  expect(third.isComplete()).toBe(true)
  expect(await checks(third, 'one', 'two')).toEqual(['allow', 'allow'])
})

it('a page and its cursor are written together or not at all', () => {
  const store = openCredentialStore(file, 'here')
  store.apply(page('1', [enabled('one')], { reset: true }))
  const broken = page('2', [enabled('two'), enabled('three', { number: {} as string })])
  expect(() => store.apply(broken)).toThrow()
  expect([store.cursor(), store.find('two')]).toEqual(['1', undefined])
  expect(() => store.apply(page('2', [], { salt: OTHER_SALT }))).toThrow()
  store.apply(page('2', [enabled('two')]))
  expect([store.cursor(), store.find('two')]).toEqual(['2', { passwordHash: null, number: null }])
  store.close()
})

for (const salt of [SALT, OTHER_SALT]) {
  it(`a new load ${salt === SALT ? '' : 'under another salt '}locks no device out until its end, then drops those that it did not bring`, async () => {
    const credentials = await open(
      page('9', [enabled('stays'), enabled('goes'), enabled('ends')], { reset: true }),
    )
    await more(credentials, page('1', [enabled('new')], { reset: true, more: true, salt }))
    expect(await checks(credentials, 'stays', 'goes', 'ends', 'new')).toEqual(Array(4).fill('allow'))
    await more(credentials, page('2', [gone('ends')], { more: true, salt }))
    expect(await checks(credentials, 'stays', 'goes', 'ends')).toEqual(['allow', 'allow', 'unknown'])
    // The same holds over a restart.
    await credentials.close()
    const again = await open(page('3', [enabled('stays')], { salt }))
    expect(await checks(again, 'stays', 'goes', 'ends', 'new')).toEqual([
      'allow',
      'unknown',
      'unknown',
      'allow',
    ])
  })
}

it('a load can start over in the middle of another one', async () => {
  const credentials = await open(page('1', [enabled('one')], { reset: true }))
  await more(credentials, page('1', [enabled('half')], { reset: true, more: true }))
  await more(credentials, page('1', [enabled('one')], { reset: true, more: true, salt: OTHER_SALT }))
  expect(await checks(credentials, 'one', 'half')).toEqual(['allow', 'unknown'])
  await more(credentials, page('2', [enabled('two')], { salt: OTHER_SALT }))
  expect(await checks(credentials, 'one', 'two')).toEqual(['allow', 'allow'])
})

it('rows that are no longer read are deleted a slice at a time', () => {
  const store = openCredentialStore(file, 'here')
  const many = Array.from({ length: 5_000 }, (_, at) => enabled(`d-${at}`))
  store.apply(page('1', many, { reset: true }))
  store.apply(page('2', many.slice(1), { reset: true, salt: OTHER_SALT }))
  let slices = 0
  while (store.sweep()) slices++
  expect(slices).toBe(4)
  expect([store.find('d-0'), store.find('d-1')]).toEqual([undefined, { passwordHash: null, number: null }])
  store.close()
})

it('credentials of another origin are discarded, and a damaged file is replaced', () => {
  const ofOther = openCredentialStore(file, 'there')
  ofOther.apply(page('1', [enabled('one')], { reset: true }))
  ofOther.close()
  const store = openCredentialStore(file, 'here')
  expect([store.cursor(), store.isComplete(), store.find('one')]).toEqual([undefined, false, undefined])
  store.close()
  writeFileSync(file, 'x'.repeat(10_000))
  const afresh = openCredentialStore(file, 'here')
  afresh.apply(page('1', [enabled('one')], { reset: true }))
  expect(afresh.isComplete()).toBe(true)
  afresh.close()
})

it('a device may subscribe to its own topic and to that of a number that no other device has, and to no other', async () => {
  const credentials = await open(
    page('1', [enabled('one', { number: 'n1' }), enabled('two', { number: 'n2' }), enabled('none')], {
      reset: true,
    }),
  )
  const may = (username: string, filter: string) => credentials.maySubscribe(username, filter)
  expect(may('one', 'ota/device/inform/one')).toBe('allow')
  expect(may('one', 'ota/devices/inform/n1')).toBe('allow')
  for (const filter of ['ota/device/inform/two', 'ota/devices/inform/n2', 'ota/#', '+/+/+/+', '$SYS/#']) {
    expect(may('one', filter)).toBe('deny')
  }
  expect(may('one', '$share/g/ota/device/inform/one')).toBe('deny')
  expect(may('none', 'ota/devices/inform/n1')).toBe('deny')
  expect(may('stranger', 'ota/devices/inform/n1')).toBe('unknown')
  await more(credentials, page('2', [enabled('twin', { number: 'n1' })]))
  expect([may('one', 'ota/devices/inform/n1'), may('twin', 'ota/devices/inform/n1')]).toEqual([
    'deny',
    'deny',
  ])
  await more(credentials, page('3', [gone('twin')]))
  expect(may('one', 'ota/devices/inform/n1')).toBe('allow')
})

it('a number counts as unique only after the whole feed was read', async () => {
  const credentials = await open(page('1', [enabled('one', { number: 'n1' })], { reset: true, more: true }))
  expect(credentials.maySubscribe('one', 'ota/devices/inform/n1')).toBe('unknown')
  expect(credentials.maySubscribe('one', 'ota/devices/inform/n2')).toBe('deny')
})

it('a watched username is revoked if it is gone, has another password or is missing from a new load', async () => {
  const [old, changed] = [await hashPassword('a'), await hashPassword('b')]
  const all = ['gone', 'password', 'left', 'stays', 'unwatched', 'away']
  const items = all.map((username) => enabled(username, { passwordHash: old }))
  const credentials = await open(page('1', items, { reset: true }))
  const revoked: string[] = []
  credentials.onRevoked((username) => revoked.push(username))
  for (const username of all) if (username !== 'unwatched') credentials.watch(username)
  credentials.unwatch('away')
  await more(
    credentials,
    page('2', [
      gone('gone'),
      gone('unwatched'),
      gone('away'),
      enabled('password', { passwordHash: changed }),
      enabled('stays', { passwordHash: old, number: 'n' }),
    ]),
  )
  expect(revoked).toEqual(['gone', 'password'])
  credentials.unwatch('gone')
  const kept = ['password', 'stays'].map((username) => enabled(username, { passwordHash: changed }))
  await more(credentials, page('1', kept, { reset: true, salt: OTHER_SALT }))
  await more(credentials, page('2', [], { salt: OTHER_SALT }))
  expect(revoked.slice(2).sort()).toEqual(['left', 'stays'])
})

it('a username that is missing from the feed when it connects is revoked unless the next pull brings it', async () => {
  const credentials = await open(page('1', [enabled('one'), enabled('two')], { reset: true }))
  const revoked: string[] = []
  credentials.onRevoked((username) => revoked.push(username))
  await more(credentials, page('2', [gone('one'), gone('two')]))
  credentials.watch('one')
  credentials.watch('two')
  expect(revoked).toEqual([])
  await more(credentials, page('3', [enabled('two')]))
  expect(revoked).toEqual(['one'])
})

it('a username that the Worker has changed is unknown until a pull that began later has ended', async () => {
  const credentials = await open(page('1', [enabled('one', { number: 'n1' })], { reset: true }))
  credentials.invalidate('one')
  expect(await checks(credentials, 'one')).toEqual(['unknown'])
  expect(credentials.maySubscribe('one', 'ota/devices/inform/n1')).toBe('unknown')
  expect(await credentials.catchUp()).toBe(false)
  expect(await checks(credentials, 'one')).toEqual(['unknown'])
  expect(await more(credentials, page('2', []))).toBe(true)
  expect(await checks(credentials, 'one')).toEqual(['allow'])
})

it('the feed is pulled at most twice a second, however many callers ask', async () => {
  const slept = skipPauses()
  const credentials = await open(page('1', [], { reset: true }))
  asked = []
  script.push(page('2', []), page('3', []), page('4', []))
  const together = Array.from({ length: 1_000 }, () => credentials.catchUp())
  expect(new Set(await Promise.all(together))).toEqual(new Set([true]))
  await credentials.refresh()
  expect(asked).toEqual(['1', '2'])
  expect(slept).toEqual([500, 500])
})

it('a pull fails if the feed does not advance or is away, and what was known still counts', async () => {
  const credentials = await open(page('1', [enabled('one')], { reset: true }))
  expect(await more(credentials, page('1', [], { more: true }))).toBe(false)
  expect(await credentials.catchUp()).toBe(false)
  expect(await checks(credentials, 'one')).toEqual(['allow'])
  expect(credentials.counts).toMatchObject({ failures: 2 })
})
