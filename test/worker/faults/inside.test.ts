import { createExecutionContext, runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { expect, it, onTestFinished, vi } from 'vitest'
import { app } from '../../../src/app.ts'
import type { Env } from '../../../src/common/env.ts'
import { type LabTask, makeLab, over, progresses } from '../lab.ts'
import { faultyEnv, PLATFORM_TEXT } from './faulty-env.ts'

/** Lets every call of the task's object to D1 fail with this error until the test ends. */
async function failInside(task: LabTask, error: Error) {
  await runInDurableObject(env.UPGRADE_TASK.getByName(task.id), (object) => {
    const { DB } = (object as unknown as { env: Env }).env
    const spies = [
      vi.spyOn(DB, 'batch').mockRejectedValue(error),
      vi.spyOn(DB, 'prepare').mockImplementation(() => {
        throw error
      }),
    ]
    onTestFinished(() => {
      for (const spy of spies) spy.mockRestore()
    })
  })
}

it('a database that is lost inside an object is a 503 for the device that asks, without its text', async () => {
  const lab = await makeLab(1)
  const task = await lab.upgradeTo('v2')
  await lab.push(lab.devices[0]!)
  await failInside(task, new Error(`D1_ERROR: Network connection lost. ${PLATFORM_TEXT}`))
  const answer = await over(lab.devices[0]!)('GET', '/device/v1/upgrade')
  expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '2'])
  expect(JSON.stringify(answer.body)).not.toContain(PLATFORM_TEXT)
})

it('a bug inside an object is a 500, logged, without its text', async () => {
  const lab = await makeLab(1)
  const task = await lab.upgradeTo('v2')
  await lab.push(lab.devices[0]!)
  await failInside(task, new TypeError(`undefined is not a function ${PLATFORM_TEXT}`))
  const logged = vi.spyOn(console, 'error').mockImplementation(() => {})
  onTestFinished(() => logged.mockRestore())
  const answer = await over(lab.devices[0]!)('GET', '/device/v1/upgrade')
  expect([answer.status, answer.body.code]).toEqual([500, 'internal'])
  expect(JSON.stringify(answer.body)).not.toContain(PLATFORM_TEXT)
  expect(logged.mock.calls.map(([line]) => JSON.parse(line).code)).toContain('internal')
})

it('an overloaded database is not asked again, and the client is told to wait longer', async () => {
  const { admin } = await makeLab(0)
  const faulty = faultyEnv()
  const asked = vi.spyOn(faulty.env.DB, 'prepare').mockImplementation(() => {
    throw new Error('D1_ERROR: D1 DB is overloaded. Too many requests queued.')
  })
  const headers = { authorization: `Bearer ${admin.key}` }
  const answer = await app.request('/api/v1/products', { headers }, faulty.env, createExecutionContext())
  expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '10'])
  expect(asked).toHaveBeenCalledTimes(1)
})

it('a write that the platform lost is not made again, since it may have been made', async () => {
  const { admin } = await makeLab(0)
  const headers = { authorization: `Bearer ${admin.key}`, 'content-type': 'application/json' }
  const create = async (from: number) => {
    // The key is read, then the product written.
    const faulty = faultyEnv('DB', { from, until: from + 1 })
    const init = { method: 'POST', headers, body: JSON.stringify({ name: `p${from}` }) }
    return (await app.request('/api/v1/products', init, faulty.env, createExecutionContext())).status
  }
  expect(await create(0)).toBe(201)
  expect(await create(1)).toBe(503)
})

it('with an Idempotency-Key nothing is made twice, whichever call of the database is lost', async () => {
  const { admin } = await makeLab(0)
  const post = async (n: number, bindings: Env) => {
    const headers = {
      authorization: `Bearer ${admin.key}`,
      'content-type': 'application/json',
      'idempotency-key': `key ${n}`,
    }
    const init = { method: 'POST', headers, body: JSON.stringify({ name: `product ${n}` }) }
    return (await app.request('/api/v1/products', init, bindings, createExecutionContext())).status
  }
  const first: number[] = []
  for (let from = 0; from < 8; from++) {
    first.push(await post(from, faultyEnv('DB', { from }).env))
    expect([201, 409]).toContain(await post(from, env as unknown as Env))
  }
  // Once the product is made, the answer goes out although it cannot be kept.
  expect([first[0], first.at(-1)]).toEqual([503, 201])
  expect(new Set(first)).toEqual(new Set([503, 201]))
  const { body } = await admin.call('GET', '/api/v1/products?limit=200')
  const names = body.items.map(({ name }: { name: string }) => name)
  expect(names.length).toBe(new Set(names).size)
})

it('a batch of a bridge whose database goes away half-way gets retry for each item, and nothing is lost', async () => {
  const lab = await makeLab(1)
  const device = lab.devices[0]!
  const task = await lab.upgradeTo('v2')
  await lab.push(device)
  const headers = {
    authorization: `Bearer ${lab.bridge.client.key}`,
    'content-type': 'application/json',
  }
  const items = [{ id: 'i1', ...progresses(device, 40) }, { id: 'i2' }]
  const init = { method: 'POST', headers, body: JSON.stringify({ bridge: 'default', items }) }
  // The key was read; who the devices are cannot be.
  const { env: faulty } = faultyEnv('DB', { from: 1 })
  const answer = await app.request('/bridge/v1/messages', init, faulty, createExecutionContext())
  expect([answer.status, await answer.json()]).toMatchObject([
    200,
    { results: items.map(({ id }) => ({ id, status: 'retry', reason: 'try again' })) },
  ])
  expect((await task.device(device)).status).toBe('pushed')
  const again = await app.request('/bridge/v1/messages', init, env, createExecutionContext())
  expect(await again.json()).toMatchObject({ results: [{ status: 'taken' }, { status: 'rejected' }] })
  await task.reaches(device, 'upgrading')
})

it('a broker is answered deny while the database or the limiter is away', async () => {
  const lab = await makeLab(1)
  const init = {
    method: 'POST',
    headers: { authorization: `Bearer ${lab.bridge.client.key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ username: lab.devices[0]!.token, peerhost: '192.0.2.9' }),
  }
  const ask = async (faulty: Env) => {
    const answer = await app.request('/broker/v1/auth', init, faulty, createExecutionContext())
    return [answer.status, await answer.json()]
  }
  expect(await ask(env as unknown as Env)).toEqual([200, { result: 'allow' }])
  for (const binding of ['DB', 'BROKER_LIMIT', 'BROKER_PEER_LIMIT'] as const) {
    expect(await ask(faultyEnv(binding).env), binding).toEqual([200, { result: 'deny' }])
  }
})
