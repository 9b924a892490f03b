import { env } from 'cloudflare:workers'
import { beforeEach, expect, it } from 'vitest'
import { type Client, caller, makeClient, makeTenant } from '../api.ts'
import { moveClock } from '../lab-clock.ts'
import { withoutTable } from '../without-table.ts'

// What can be learned about the tokens of devices, and who learned it.

const CSV = { 'content-type': 'text/csv' }

let admin: Client & { tenantId: string }
let other: Client & { tenantId: string }
let productId: string
let theirProductId: string
let count = 0
beforeEach(async () => {
  ;[admin, other] = [await makeTenant(), await makeTenant()]
  productId = (await admin.call('POST', '/api/v1/products', { name: 'p' })).body.id
  theirProductId = (await other.call('POST', '/api/v1/products', { name: 'p' })).body.id
  count += 1
})

const create = async (by: Client, product: string, body: object) => {
  const made = await by.call('POST', '/api/v1/devices', { productId: product, ...body })
  expect(made.status, JSON.stringify(made.body)).toBe(201)
  return made.body
}
const load = async (csv: string, trial: boolean) =>
  (await admin.call('POST', `/api/v1/devices/import?productId=${productId}&trial=${trial}`, csv, CSV)).body
const shown = async (query = 'action=device.reveal_token') =>
  (await admin.call('GET', `/api/v1/audit?${query}`)).body.items

it("a trial of an import does not tell whether a token is another tenant's", async () => {
  const taken = `taken-by-others-${count}`
  const free = `free-to-be-used-${count}`
  await create(other, theirProductId, { number: '1', accessToken: taken })
  await create(admin, productId, { number: 'own', accessToken: `taken-by-itself-${count}` })
  const answers = []
  for (const token of [taken, free])
    answers.push(await load(`number,access_token\n7,${token}\nown,${token}x\n`, true))
  expect(answers[0]).toEqual(answers[1])
  expect(answers[0]).toMatchObject({ created: 1, updated: 1, rejected: [] })
  // What the tenant has itself is told.
  expect((await load(`number,access_token\n8,taken-by-itself-${count}\n`, true)).rejected).toEqual([
    { line: 2, reason: 'access_token: another device has it' },
  ])
  // The import itself cannot give a token twice. It leaves a trace.
  expect((await load(`number,access_token\n7,${taken}\n`, false)).rejected).toEqual([
    { line: 2, reason: 'access_token: another device has it' },
  ])
  expect(await shown('action=device.import')).not.toEqual([])
})

it('a trial with a short token does not tell whether anybody has it', async () => {
  const short = `s-${count}`
  const device = await create(other, theirProductId, { number: '1' })
  await env.DB.prepare('UPDATE devices SET access_token = ? WHERE id = ?').bind(short, device.id).run()
  for (const trial of [true, false]) {
    const [taken, free] = [
      await load(`number,access_token\n7,${short}\n`, trial),
      await load(`number,access_token\n7,${short}x\n`, trial),
    ]
    expect(taken).toEqual(free)
    expect(taken.rejected[0].reason).toContain('16')
  }
})

it('a short token of an earlier release stays, and a file that has it can be imported again', async () => {
  const short = `old-${count}`
  const device = await create(admin, productId, { number: '1' })
  await env.DB.prepare('UPDATE devices SET access_token = ? WHERE id = ?').bind(short, device.id).run()
  expect((await caller(short)('GET', '/device/v1/upgrade')).status).toBe(200)
  expect(await load(`number,access_token,name\n1,${short},renamed\n`, false)).toMatchObject({
    updated: 1,
    rejected: [],
  })
  expect((await caller(short)('GET', '/device/v1/upgrade')).status).toBe(200)
  expect((await load('number,access_token\n1,another-short\n', false)).rejected).toHaveLength(1)
  const patched = await admin.call('PATCH', `/api/v1/devices/${device.id}`, { name: 'again' })
  expect(patched.body).toMatchObject({ name: 'again', accessToken: short })
})

it.each([15, 65])('a chosen token of %i characters is refused, with the limits', async (length) => {
  const body = { productId, number: 'n', accessToken: 'x'.repeat(length) }
  const { status, body: answer } = await admin.call('POST', '/api/v1/devices', body)
  expect(status).toBe(422)
  expect(answer.errors).toEqual([
    { path: 'accessToken', message: 'must be 16 to 64 characters of A-Z a-z 0-9 _ -' },
  ])
})

it('who was shown a token stands in the audit log, at most once an hour', async () => {
  const device = await create(admin, productId, { number: '1' })
  const viewer = await makeClient('viewer', admin.tenantId)
  const operator = await makeClient('operator', admin.tenantId)
  const path = `/api/v1/devices/${device.id}`
  await viewer.call('GET', path)
  await admin.call('GET', '/api/v1/devices')
  expect(await shown()).toEqual([])
  for (let times = 0; times < 3; times++) await operator.call('GET', path)
  expect(await shown()).toMatchObject([{ role: 'operator', target: device.id }])
  await admin.call('PATCH', path, { name: 'x' })
  expect(await shown()).toMatchObject([{ role: 'admin' }, { role: 'operator' }])
  moveClock(3_600_001)
  await operator.call('GET', path)
  expect(await shown()).toHaveLength(3)
  expect(JSON.stringify(await shown())).not.toContain(device.accessToken)
})

it('a token that cannot be recorded as shown is not shown', async () => {
  const device = await create(admin, productId, { number: '1' })
  const answer = await withoutTable('audit_entries', () => admin.call('GET', `/api/v1/devices/${device.id}`))
  expect(answer.status).toBeGreaterThanOrEqual(500)
  expect(JSON.stringify(answer.body)).not.toContain(device.accessToken)
})

it('a device with a username and password has no token to be shown', async () => {
  const credentials = { username: `user-${count}`, password: 'secret' }
  const device = await create(admin, productId, { number: '1', credentials })
  await admin.call('GET', `/api/v1/devices/${device.id}`)
  expect(await shown()).toEqual([])
})

it("an import for a device with a username does not tell whether a token is another tenant's", async () => {
  const taken = `taken-by-others-${count}`
  await create(other, theirProductId, { number: '1', accessToken: taken })
  const credentials = { username: `basic-user-number-${count}`, password: 'a-long-password' }
  await create(admin, productId, { number: 'b1', credentials })
  for (const trial of [true, false]) {
    const right = await load(`number,access_token\nb1,${taken}\n`, trial)
    expect(await load(`number,access_token\nb1,${taken}x\n`, trial)).toEqual(right)
  }
})
