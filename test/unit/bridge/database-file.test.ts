import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { openCredentialStore } from '../../../bridge/credential-store.ts'
import type { Damaged } from '../../../bridge/database-file.ts'
import { openSpool } from '../../../bridge/spool.ts'

let directory: string
let file: string
let damaged: Damaged[]
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'damaged-'))
  file = join(directory, 'file.db')
  damaged = []
})
afterEach(() => {
  vi.restoreAllMocks()
  vi.useRealTimers()
  rmSync(directory, { recursive: true })
})

const onDamaged = (what: Damaged) => void damaged.push(what)
const spool = () => openSpool(file, { sync: 'normal', onDamaged })
const store = () => openCredentialStore(file, 'here', onDamaged)
const entry = (text: string) => ({
  key: 'a',
  at: null,
  body: JSON.stringify({ kind: 'message', payload: text }),
})
const keptFiles = () =>
  readdirSync(directory)
    .filter((name) => /\.damaged-\d+-[^-]*$/.test(name))
    .sort()

function write(statement: string): void {
  const db = new DatabaseSync(file)
  db.exec(statement)
  db.close()
}

/** A file with so much in it that most of its pages are in the middle. */
function large(): void {
  const opened = spool()
  for (let n = 0; n < 100; n++) opened.append([entry('x'.repeat(60_000))])
  opened.close()
}

/** Overwrites the file from a byte on. */
function overwrite(from: number, bytes = statSync(file).size - from): void {
  writeSync(openSync(file, 'r+'), Buffer.alloc(bytes, 'damage'), 0, bytes, from)
}

const DAMAGES: [string, () => void][] = [
  ['garbage', () => writeFileSync(file, 'garbage'.repeat(10_000))],
  ['nothing in it', () => writeFileSync(file, '')],
  ['a folder in its place', () => mkdirSync(file)],
  [
    'the schema of something else',
    () => write('CREATE TABLE meta (x); CREATE TABLE items (y); CREATE TABLE credentials (z)'),
  ],
  [
    'a header and nothing after it',
    () => {
      large()
      truncateSync(file, 100)
    },
  ],
  [
    'its first page only',
    () => {
      large()
      truncateSync(file, 4096)
    },
  ],
  [
    'its end cut off',
    () => {
      large()
      truncateSync(file, 8192)
    },
  ],
]

describe.each([
  [
    'the file of the spool',
    spool,
    () => {
      const opened = spool()
      opened.append([entry('new')])
      expect(opened.depth()).toBe(1)
      return opened
    },
  ],
  [
    'the file of the credentials',
    store,
    () => {
      const opened = store()
      expect([opened.isComplete(), opened.cursor()]).toEqual([false, undefined])
      return opened
    },
  ],
] as const)('%s', (name, open, useAnew) => {
  it.each(DAMAGES)(`${name} with %s is moved aside and begun anew`, (_what, damage) => {
    damage()
    useAnew().close()
    const [{ movedTo, cause }] = damaged as [Damaged]
    expect(damaged).toHaveLength(1)
    expect(movedTo).toMatch(/^file\.db\.damaged-1-\d{8}T\d{6}Z$/)
    expect(cause).not.toBe('')
    expect(existsSync(join(directory, movedTo))).toBe(true)
    // The next start finds a file that is well, and still names the one for a person to look at.
    const again = open()
    expect([damaged.length, again.damage.count(), again.damage.kept()]).toEqual([1, 0, [movedTo]])
    again.close()
  })

  it(`${name}: at most three damaged files are kept, the newest ones`, () => {
    // The clock runs backward: an hour earlier each time.
    vi.useFakeTimers({ toFake: ['Date'] })
    const now = Date.now()
    for (let n = 0; n < 6; n++) {
      vi.setSystemTime(now - n * 3_600_000)
      writeFileSync(file, `damage ${n} `.repeat(1_000))
      open().close()
    }
    expect(keptFiles()).toHaveLength(3)
    expect(keptFiles().map((kept) => readFileSync(join(directory, kept), 'utf8').slice(0, 8))).toEqual([
      'damage 3',
      'damage 4',
      'damage 5',
    ])
    // Somebody's folder is never deleted.
    mkdirSync(join(directory, 'file.db.damaged-0-mine'))
    writeFileSync(join(directory, 'file.db.damaged-0-mine', 'precious'), '')
    writeFileSync(file, 'damage')
    open().close()
    expect(existsSync(join(directory, 'file.db.damaged-0-mine', 'precious'))).toBe(true)
  })

  it(`${name}: a file that is locked or on a full disk is not taken for a damaged one`, () => {
    const first = open()
    expect(() => open()).toThrow(/locked/)
    first.close()
    expect(damaged).toEqual([])
    expect(keptFiles()).toEqual([])
  })
})

it.each([
  ['name is empty', `UPDATE meta SET value = '' WHERE name = 'id'`],
  ['lease has another shape', `INSERT INTO meta VALUES ('lease', '{"own":"x"}')`],
  ['lease is out of range', `INSERT INTO meta VALUES ('lease', '{"own":1,"known":1e300}')`],
  ['lease is no JSON', `INSERT INTO meta VALUES ('lease', 'x')`],
])('a spool whose %s is begun anew', (_what, statement) => {
  spool().close()
  write(statement)
  const opened = spool()
  expect([damaged.length, opened.lease()]).toEqual([1, { own: null, known: null }])
  opened.close()
})

it('credentials whose state makes no sense are begun anew', () => {
  for (const state of [
    'x',
    '{}',
    '{"origin":"here","cursor":null,"complete":{"id":"1"},"loading":null,"lastId":1,"stale":[]}',
  ]) {
    store().close()
    write(`UPDATE meta SET value = '${state}' WHERE name = 'state'`)
    store().close()
  }
  expect(damaged).toHaveLength(3)
})

it('damage that a running spool meets loses no message that comes then, and the new spool has a new name', () => {
  large()
  const opened = spool()
  const before = opened.instance()
  const [first] = opened.peek(1, 1e6, [])
  expect(damaged).toEqual([])
  overwrite(3 * 4096)
  // Somewhere in here the damage shows.
  for (let n = 0; n < 100 && damaged.length === 0; n++) opened.drop(opened.peek(10, 1e6, []))
  opened.append([entry('while damaged')])
  expect(damaged).toHaveLength(1)
  expect(opened.instance()).not.toBe(before)
  // Items of the old file mean nothing to the new one.
  opened.drop([first!])
  opened.moveToDeadLetters(first!, 'late')
  expect(opened.peek(10, 1e6, []).map(({ json }) => JSON.parse(json).payload)).toEqual(['while damaged'])
  expect([opened.depth(), opened.damage.count()]).toEqual([1, 1])
  opened.drop(opened.peek(10, 1e6, []))
  expect([opened.depth(), opened.bytes(), opened.oldest()]).toEqual([0, 0, undefined])
  opened.close()
})

it('damage that running credentials meet makes them read everything again', () => {
  const salt = 'a'.repeat(43)
  const opened = store()
  const items = Array.from({ length: 2_000 }, (_, n) => ({
    key: String(n).padStart(43, 'k'),
    passwordHash: 'h'.repeat(200),
    number: String(n),
    state: 'enabled' as const,
  }))
  for (let n = 0; n < 10; n++) {
    const page = items.map((item) => ({ ...item, key: `${n}${item.key.slice(1)}` }))
    opened.apply({ salt, items: page, cursor: String(n), more: n < 9, reset: n === 0 })
  }
  opened.close()
  const again = store()
  expect(again.isComplete()).toBe(true)
  overwrite(3 * 4096)
  for (let n = 0; n < 500 && damaged.length === 0; n++) again.isShared(String(n))
  for (let n = 0; n < 500 && damaged.length === 0; n++) again.find(String(n))
  expect(damaged).toHaveLength(1)
  expect([again.isComplete(), again.cursor()]).toEqual([false, undefined])
  again.apply({ salt, items: items.slice(0, 1), cursor: '1', more: false, reset: true })
  expect(again.isComplete()).toBe(true)
  again.close()
})

it('a disk that damages each new file is no reason for ever new ones', () => {
  large()
  const opened = spool()
  overwrite(3 * 4096)
  const work = () => {
    for (let n = 0; n < 100; n++) opened.drop(opened.peek(10, 1e6, []))
  }
  work()
  expect(damaged).toHaveLength(1)
  for (let n = 0; n < 100; n++) opened.append([entry('x'.repeat(60_000))])
  overwrite(3 * 4096)
  expect(() => work()).toThrow(/malformed|not a database/)
  expect(damaged).toHaveLength(1)
  const later = performance.now() + 61_000
  vi.spyOn(performance, 'now').mockReturnValue(later)
  work()
  expect(damaged).toHaveLength(2)
  opened.close()
})
