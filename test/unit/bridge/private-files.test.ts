import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { openCredentialStore } from '../../../bridge/credential-store.ts'
import { keepKeys } from '../../../bridge/local/database.ts'
import { keepSecrets } from '../../../bridge/local/secrets.ts'
import { closeToOthers, makePrivateFolder, writePrivateFile } from '../../../bridge/private-files.ts'
import { openSpool } from '../../../bridge/spool.ts'

let directory: string
let umask: number
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'private-'))
  umask = process.umask(0)
})
afterEach(() => {
  process.umask(umask)
  rmSync(directory, { recursive: true })
})

const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8)
/** The modes of a folder and of everything in it. */
const modesIn = (folder: string) =>
  Object.fromEntries(
    ['.', ...readdirSync(folder, { recursive: true, encoding: 'utf8' })].map((name) => [
      name,
      modeOf(join(folder, name)),
    ]),
  )

const fill = (file: string) => {
  const spool = openSpool(file, { sync: 'normal' })
  spool.append([{ key: 'a', at: null, body: '{"kind":"message"}' }])
  return spool
}

it('with a careless umask, spool and credentials are closed to others, also while SQLite writes them', () => {
  const folder = join(directory, 'new')
  const spool = fill(join(folder, 'spool.db'))
  const store = openCredentialStore(join(folder, 'credentials.db'), 'here')
  expect(modesIn(folder)).toEqual({
    '.': '700',
    'spool.db': '600',
    'spool.db-wal': '600',
    'credentials.db': '600',
    'credentials.db-wal': '600',
  })
  spool.close()
  store.close()
})

it('what an earlier version or somebody else left open is closed at the next start', () => {
  const folder = join(directory, 'old')
  mkdirSync(folder, { mode: 0o755 })
  const file = join(folder, 'spool.db')
  fill(file).close()
  for (const name of ['spool.db-wal', 'spool.db-shm']) writeFileSync(join(folder, name), '')
  for (const name of readdirSync(folder)) chmodSync(join(folder, name), 0o666)
  chmodSync(folder, 0o755)
  const spool = fill(file)
  expect(modesIn(folder)).toMatchObject({ '.': '700', 'spool.db': '600', 'spool.db-wal': '600' })
  expect(spool.depth()).toBe(2)
  spool.close()
})

it('a damaged file that was moved aside is closed to others too', () => {
  const folder = join(directory, 'damaged')
  mkdirSync(folder, { mode: 0o755 })
  writeFileSync(join(folder, 'spool.db'), 'garbage'.repeat(1_000), { mode: 0o666 })
  fill(join(folder, 'spool.db')).close()
  expect(Object.values(modesIn(folder)).sort()).toEqual(['600', '600', '700'])
})

it('keys and secrets are closed to others, stay the same at the next start, and are never public ones', () => {
  const vars = join(directory, '.dev.vars')
  const secrets = join(directory, 'local', 'secrets.env')
  const keys = keepKeys(vars)
  const made = keepSecrets(secrets)
  expect([modeOf(vars), modesIn(dirname(secrets))]).toEqual(['600', { '.': '700', 'secrets.env': '600' }])
  expect(new Set(Object.values(made)).size).toBe(4)
  chmodSync(vars, 0o644)
  chmodSync(secrets, 0o644)
  expect([keepKeys(vars), keepSecrets(secrets)]).toEqual([keys, made])
  expect([modeOf(vars), modeOf(secrets)]).toEqual(['600', '600'])
  writeFileSync(secrets, 'SESSION_SECRET=local-session-secret\nDOWNLOAD_SIGNING_KEY=of-this-installation\n')
  const again = keepSecrets(secrets)
  expect(again.DOWNLOAD_SIGNING_KEY).toBe('of-this-installation')
  expect(again.SESSION_SECRET).toMatch(/^[0-9a-f]{64}$/)
})

it('a small file is written beside its place, closed to others, and leaves nothing behind', () => {
  const file = join(directory, 'secret')
  writeFileSync(file, 'old', { mode: 0o666 })
  writePrivateFile(file, 'new')
  expect(readFileSync(file, 'utf8')).toBe('new')
  expect(modesIn(directory)).toEqual({ '.': '700', secret: '600' })
})

it('a symbolic link to the file of secrets stays one', () => {
  const real = join(directory, 'elsewhere')
  const link = join(directory, '.dev.vars')
  writeFileSync(real, 'OTHER=1\n', { mode: 0o644 })
  symlinkSync(real, link)
  const keys = keepKeys(link)
  expect([lstatSync(link).isSymbolicLink(), modeOf(real)]).toEqual([true, '600'])
  expect(readFileSync(real, 'utf8')).toContain(`OTHER=1\nADMIN_KEY=${keys.adminKey}`)
})

it('a data folder is closed with everything in it', () => {
  mkdirSync(join(directory, 'state', 'r2'), { recursive: true, mode: 0o777 })
  writeFileSync(join(directory, 'state', 'r2', 'blob'), 'x', { mode: 0o644 })
  closeToOthers(join(directory, 'state'))
  expect(modesIn(join(directory, 'state'))).toEqual({ '.': '700', r2: '700', 'r2/blob': '600' })
})

it('a folder that others use too stays as it is', () => {
  const shared = join(directory, 'shared')
  mkdirSync(shared)
  chmodSync(shared, 0o1777)
  makePrivateFolder(shared)
  expect(statSync(shared).mode & 0o7777).toBe(0o1777)
  const here = modeOf('.')
  makePrivateFolder('.')
  expect(modeOf('.')).toBe(here)
})
