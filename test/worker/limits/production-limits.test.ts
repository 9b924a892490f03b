import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { afterEach, expect, it, onTestFinished, vi } from 'vitest'
import { openDb } from '../../../src/db/client.ts'
import { webhooks } from '../../../src/db/schema.ts'
import { hubStub } from '../../../src/hub/hub.ts'
import type { BridgeHub } from '../../../src/hub/hub-object.ts'
import { packageVerifier } from '../../../src/packages/verifier-stub.ts'
import { makeTenant } from '../api.ts'
import { LIMITS, takeExcesses } from '../production-limits.ts'

// The whole suite runs with production's limits: each is seen to hold here, inside the Worker and inside an object.

afterEach(() => void takeExcesses())

const inHub = <T>(work: (storage: DurableObjectStorage, hub: BridgeHub) => T | Promise<T>): Promise<T> =>
  runInDurableObject(env.BRIDGE_HUB.getByName('*/limits'), (hub: BridgeHub, { storage }) =>
    work(storage, hub),
  )
const text = (bytes: number) => 'x'.repeat(bytes)

/** What the work threw, and what the test would have failed with if it had been caught. */
async function refused(work: () => unknown): Promise<{ message: string; excess: string | undefined }> {
  const message = await (async () => work())().then(
    () => 'not refused',
    (error: Error) => error.message,
  )
  return { message, excess: takeExcesses()[0] }
}

it('D1 takes a value of 2,000,000 bytes and none more, counted in UTF-8', async () => {
  const bind = (value: string) => env.DB.prepare('SELECT length(?1) AS n').bind(value).first('n')
  expect(await bind(text(LIMITS.row))).toBe(LIMITS.row)
  for (const value of [text(LIMITS.row + 1), '字'.repeat(700_000)]) {
    expect(await refused(() => bind(value))).toEqual({
      message: 'D1: string or blob too big: SQLITE_TOOBIG',
      excess: expect.stringContaining('D1: a value of 2'),
    })
  }
})

it('D1 takes 100 parameters, and statements of 100 KB', async () => {
  const select = (count: number) =>
    env.DB.prepare(`SELECT ${Array.from({ length: count }, () => '?').join()}`)
      .bind(...Array(count).fill(1))
      .run()
  await select(100)
  expect((await refused(() => select(101))).excess).toBe('D1: 101 parameters')
  const long = () => env.DB.prepare(`SELECT 1 -- ${text(LIMITS.sql)}`).run()
  expect((await refused(long)).excess).toContain('D1: a statement of 100')
})

it('Drizzle passes the same gate', async () => {
  const insert = () =>
    openDb(env.DB)
      .update(webhooks)
      .set({ url: text(LIMITS.row + 1) })
      .run()
  expect((await refused(insert)).excess).toContain('D1: a value')
})

it("an object's SQLite and its keys take 2,000,000 bytes a row", async () => {
  await inHub(async ({ sql, kv }) => {
    sql.exec('CREATE TABLE IF NOT EXISTS rows (a, b)')
    const insert = (a: number, b: number) => () =>
      sql.exec('INSERT INTO rows VALUES (?, ?)', text(a), text(b))
    insert(1_000_000, 1_000_000)()
    expect((await refused(insert(1_000_001, 1_000_000))).excess).toBe('object: a row of 2000001 bytes')
    kv.put('key', text(1_900_000))
    expect((await refused(() => kv.put('key', [text(1_000_000), text(1_000_000)]))).excess).toContain(
      'under key',
    )
    kv.delete('key')
    sql.exec('DROP TABLE rows')
  })
})

it('a call of an object takes 32 MiB: workerd itself sees to that', async () => {
  const hub = hubStub(env, '*/limits')
  const reply = async (bytes: number) => hub.reply('topic', text(bytes))
  await reply(32_000_000)
  expect((await refused(() => reply(32 * 1024 * 1024))).message).toContain('32MiB')
})

/** Lets an invocation make only so many statements until the test ends. */
function allowStatements(count: number): void {
  const before = LIMITS.statements
  LIMITS.statements = count
  onTestFinished(() => {
    LIMITS.statements = before
  })
}

it('one request to the Worker makes 1,000 statements in D1', async () => {
  expect(LIMITS.statements).toBe(1_000)
  const admin = await makeTenant()
  allowStatements(1)
  // It reads the key, then the list.
  expect((await admin.call('GET', '/api/v1/products')).status).toBe(500)
  expect(takeExcesses()).toEqual(['D1: more than 1 statements in GET /api/v1/products'])
  allowStatements(5)
  for (let time = 0; time < 3; time++) {
    expect((await admin.call('GET', '/api/v1/products')).status).toBe(200)
  }
})

it('so does one alarm of an object', async () => {
  const ref = { tenantId: 'ten_limits', packageId: 'pkg_limits' }
  await packageVerifier(env, ref).wake(ref, 60_000)
  allowStatements(0)
  const logged = vi.spyOn(console, 'error').mockImplementation(() => {})
  onTestFinished(() => logged.mockRestore())
  await runDurableObjectAlarm(env.PACKAGE_VERIFIER.getByName(ref.packageId))
  expect(takeExcesses()).toEqual(['D1: more than 0 statements in PackageVerifier.alarm'])
})
