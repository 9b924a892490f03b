import { env, exports } from 'cloudflare:workers'
import { beforeAll, expect, it } from 'vitest'
import { app } from '../../../src/app.ts'
import { taskStub } from '../../../src/tasks/api/task-stub.ts'
import type { UpgradeTask } from '../../../src/tasks/object/task-object.ts'
import { caller, makeClient } from '../api.ts'
import { type Lab, makeLab } from '../lab.ts'
import { moveClock } from '../lab-clock.ts'

// What an Idempotency-Key is worth: after its 24 hours, on another route, under another API key, after a failure.

const DAY_MS = 24 * 3600_000

let lab: Lab
let packageId: string
let count = 0
beforeAll(async () => {
  lab = await makeLab(1)
  packageId = await lab.addPackage('v2')
})

const newKey = () => ({ 'idempotency-key': `key-${++count}` })
const createTask = (name: string, key: Record<string, string>, more: object = {}) =>
  lab.admin.call('POST', '/api/v1/tasks', { packageId, name, devices: 'all', ...more }, key)

it.each([
  ['another body', 'second'],
  ['the same body', 'first'],
])('a task that is created under a key of the day before, with %s, is a new task', async (_, name) => {
  const key = newKey()
  const first = await createTask('first', key)
  moveClock(DAY_MS + 1)
  const second = await createTask(name, key)
  expect([first.status, second.status]).toEqual([201, 201])
  expect(second.body).toMatchObject({ name })
  expect(second.body.id).not.toBe(first.body.id)
  expect(second.headers.get('idempotency-replayed')).toBeNull()
  // From here on the key stands for the second request.
  expect((await createTask(name, key)).body.id).toBe(second.body.id)
  expect((await createTask('third', key)).body.code).toBe('idempotency.conflict')
})

it('a key counts until its 24 hours are over', async () => {
  const key = newKey()
  const first = await createTask('first', key)
  moveClock(DAY_MS - 60_000)
  expect((await createTask('first', key)).body.id).toBe(first.body.id)
  expect((await createTask('second', key)).body.code).toBe('idempotency.conflict')
})

it('a clock that goes back makes no earlier answer another one', async () => {
  const key = newKey()
  const first = await createTask('first', key)
  moveClock(-2 * DAY_MS)
  expect((await createTask('first', key)).body.id).toBe(first.body.id)
  expect((await createTask('second', key)).body.code).toBe('idempotency.conflict')
})

it('of several requests at once under an expired key one is done, and none gets the old task', async () => {
  const key = newKey()
  const first = await createTask('first', key)
  moveClock(DAY_MS + 1)
  const answers = await Promise.all(['a', 'a', 'b', 'c'].map((name) => createTask(name, key)))
  const made = new Set(answers.flatMap(({ status, body }) => (status === 201 ? [body.id] : [])))
  expect(made.size).toBe(1)
  expect(made).not.toContain(first.body.id)
  for (const { status, body } of answers) {
    if (status !== 201) expect(body.code).toMatch(/^idempotency\.(conflict|in_flight)$/)
  }
})

it('a task is made once, however often its request is cut off before the answer', async () => {
  const key = newKey()
  const first = await createTask('cut off', key)
  for (let times = 0; times < 3; times++) {
    const cut = `UPDATE idempotent_answers SET status = NULL, body = NULL WHERE idempotency_key = ?`
    await env.DB.prepare(cut).bind(key['idempotency-key']).run()
    moveClock(61_000)
    const again = await createTask('cut off', key)
    expect([again.status, again.body.id]).toEqual([201, first.body.id])
  }
})

it('a task is made once if the answer was a failure of the server, and another body may then have the key', async () => {
  const other = newKey()
  const request = (name: string) =>
    new Request('http://edge-ota.test/api/v1/tasks', {
      method: 'POST',
      headers: { authorization: `Bearer ${lab.admin.key}`, 'content-type': 'application/json', ...other },
      body: JSON.stringify({ packageId, name, devices: 'all' }),
    })
  // The task is made, and then the answer to it fails.
  const broken = {
    getByName: (name: string) => ({
      create: (...spec: Parameters<UpgradeTask['create']>) => taskStub(env, name).create(...spec),
      view: async () => {
        throw new Error('away')
      },
    }),
  }
  const context = { waitUntil: () => {}, passThroughOnException: () => {}, props: {} }
  const once = await app.fetch(request('made'), { ...env, UPGRADE_TASK: broken } as never, context as never)
  expect(once.status).toBe(500)
  const again = await exports.default.fetch(request('made'))
  expect(again.status).toBe(201)
  const listed = await lab.admin.call('GET', `/api/v1/tasks?productId=${lab.productId}&limit=200`)
  const made = listed.body.items.filter(({ name }: { name: string }) => name === 'made')
  expect(made).toHaveLength(1)

  await env.DB.prepare(
    `UPDATE idempotent_answers SET status = NULL, claimed_at = 0 WHERE idempotency_key = ?`,
  )
    .bind(other['idempotency-key'])
    .run()
  const another = (await (await exports.default.fetch(request('another'))).json()) as { id: string }
  expect(another).toMatchObject({ name: 'another' })
  expect(another.id).not.toBe(made[0].id)
})

it('a key says nothing on another route or query, nor under another API key', async () => {
  const key = newKey()
  const made = await lab.admin.call('POST', '/api/v1/products', { name: 'p' }, key)
  expect(made.status).toBe(201)
  const freeze = `/api/v1/products/${made.body.id}/freeze`
  for (const path of [freeze, '/api/v1/tasks', '/api/v1/products?x=1']) {
    const answer = await lab.admin.call('POST', path, { name: 'p' }, key)
    expect([path, answer.body.code]).toEqual([path, 'idempotency.conflict'])
  }
  const colleague = await makeClient('admin', lab.admin.tenantId)
  const theirs = await colleague.call('POST', '/api/v1/products', { name: 'p' }, key)
  expect(theirs.status).toBe(201)
  expect(theirs.body.id).not.toBe(made.body.id)
  expect((await caller(undefined)('POST', '/api/v1/products', { name: 'p' }, key)).status).toBe(401)
})

it('a repeated form of the console makes one task, and another form makes another, whatever its key', async () => {
  const body = new URLSearchParams({ key: lab.admin.key })
  const origin = 'http://edge-ota.test'
  const signedIn = await exports.default.fetch(`${origin}/sign-in`, {
    method: 'POST',
    body,
    headers: { origin },
    redirect: 'manual',
  })
  const cookie = signedIn.headers.get('set-cookie')!.split(';')[0]!
  const anyone = caller(undefined)
  const key = newKey()
  const send = (name: string) =>
    anyone('POST', '/api/v1/tasks', { packageId, name, devices: 'all' }, { cookie, origin, ...key })
  const [first, again, other] = [await send('form'), await send('form'), await send('other form')]
  expect(again.body.id).toBe(first.body.id)
  expect(other.body).toMatchObject({ name: 'other form' })
  expect(other.body.id).not.toBe(first.body.id)
})

it('a task that a form of the console makes is made once within 24 hours, and anew after them', async () => {
  const key = newKey()
  const signIn = async () => {
    const answer = await exports.default.fetch('http://edge-ota.test/sign-in', {
      method: 'POST',
      redirect: 'manual',
      headers: { origin: 'http://edge-ota.test' },
      body: new URLSearchParams({ key: lab.admin.key, to: '/' }),
    })
    return answer.headers.get('set-cookie')!.split(';')[0]!
  }
  const post = async (cookie: string, name: string) => {
    const answer = await exports.default.fetch('http://edge-ota.test/api/v1/tasks', {
      method: 'POST',
      headers: { cookie, origin: 'http://edge-ota.test', 'content-type': 'application/json', ...key },
      body: JSON.stringify({ packageId, name, devices: 'all' }),
    })
    return { status: answer.status, body: (await answer.json()) as { id: string; code: string } }
  }
  const cookie = await signIn()
  const first = await post(cookie, 'x')
  expect((await post(cookie, 'x')).body.id).toBe(first.body.id)
  expect((await post(cookie, 'y')).body.id).not.toBe(first.body.id)
  moveClock(DAY_MS + 1)
  const late = await post(await signIn(), 'x')
  expect([first.status, late.status]).toEqual([201, 201])
  expect(late.body.id).not.toBe(first.body.id)
})
