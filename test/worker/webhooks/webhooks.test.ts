import { env } from 'cloudflare:workers'
import { expect, it } from 'vitest'
import { app } from '../../../src/app.ts'
import { publishEvents } from '../../../src/webhooks/publish.ts'
import { makeClient, makeTenant } from '../api.ts'
import {
  deliveriesOf,
  makeEvent,
  makeReceiver,
  makeWebhook,
  untilDelivery,
  verify,
} from './webhooks-fixture.ts'

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
const body = { url: 'https://example.com/hook', events: ['task.halted'] }

it('a webhook can be made, changed and deleted, and its secret is shown only once', async () => {
  const admin = await makeTenant()
  const made = await admin.call('POST', '/api/v1/webhooks', { ...body, secret: SECRET })
  expect(made.status).toBe(201)
  const { secret, ...shown } = made.body
  expect(secret).toBe(SECRET)
  expect(shown).toEqual({
    id: expect.stringMatching(/^whk_/),
    ...body,
    createdAt: expect.any(String),
    disabledAt: null,
    pending: 0,
    dropped: 0,
  })
  const path = `/api/v1/webhooks/${shown.id}`
  expect((await admin.call('GET', path)).body).toEqual(shown)
  expect((await admin.call('GET', '/api/v1/webhooks')).body).toEqual({ items: [shown], nextCursor: null })
  const changed = await admin.call('PATCH', path, { events: ['device.failed', 'task.finished'] })
  expect(changed.body).toEqual({ ...shown, events: ['device.failed', 'task.finished'] })
  expect((await admin.call('PATCH', path, { secret: SECRET })).body).toEqual(changed.body)
  const audited = await admin.call('GET', '/api/v1/audit')
  expect(audited.body.items.map(({ action }: { action: string }) => action)).toEqual([
    'webhook.update',
    'webhook.update',
    'webhook.create',
  ])
  expect(JSON.stringify(audited.body)).not.toMatch(/MfKQ9r8GKY|\/hook/)
  expect((await admin.call('DELETE', path)).status).toBe(204)
  expect((await admin.call('GET', path)).body.code).toBe('webhook.not_found')
  expect((await admin.call('DELETE', path)).status).toBe(404)
})

it('a webhook without a secret gets one', async () => {
  const admin = await makeTenant()
  const secrets = await Promise.all([1, 2].map(async () => (await makeWebhook(admin, body.url)).secret))
  expect(secrets[0]).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/)
  expect(secrets[0]).not.toBe(secrets[1])
})

it('an invalid webhook is refused, and the field is named', async () => {
  const admin = await makeTenant()
  const { id } = await makeWebhook(admin, body.url)
  const strict = { ...env, WEBHOOKS_ALLOW_PRIVATE: 'false' }
  const call = async (method: string, path: string, sent: object) => {
    const headers = { authorization: `Bearer ${admin.key}`, 'content-type': 'application/json' }
    const context = { waitUntil: () => {}, passThroughOnException: () => {}, props: {} }
    const answer = await app.request(
      path,
      { method, headers, body: JSON.stringify(sent) },
      strict,
      context as never,
    )
    // biome-ignore lint/suspicious/noExplicitAny: tests look into whatever comes back
    const { errors } = (await answer.json()) as any
    return [answer.status, errors?.map(({ path }: { path: string }) => path)]
  }
  for (const [sent, path] of [
    [{ ...body, url: 'http://example.com' }, 'url'],
    [{ ...body, url: 'https://2130706433/' }, 'url'],
    [{ ...body, url: 'https://me:secret@example.com' }, 'url'],
    [{ ...body, url: `https://example.com/${'x'.repeat(2048)}` }, 'url'],
    [{ ...body, url: 'nonsense' }, 'url'],
    [{ ...body, events: [] }, 'events'],
    [{ ...body, events: ['task.halted', 'task.hatled'] }, 'events.1'],
    [{ ...body, events: ['task.halted', 'task.halted'] }, 'events'],
    [{ ...body, secret: 'whsec_c2hvcnQ=' }, 'secret'],
    [{ ...body, extra: 1 }, 'extra'],
  ] as const) {
    expect(await call('POST', '/api/v1/webhooks', sent), JSON.stringify(sent).slice(0, 80)).toEqual([
      422,
      [path],
    ])
  }
  expect(await call('PATCH', `/api/v1/webhooks/${id}`, { url: 'https://localhost' })).toEqual([422, ['url']])
  expect((await admin.call('GET', `/api/v1/webhooks/${id}/deliveries?cursor=x`)).status).toBe(422)
})

it('webhooks are for the admins of one tenant, which has 50 of them at most', async () => {
  const admin = await makeTenant()
  const { id } = await makeWebhook(admin, body.url)
  const calls = [
    ['GET', '/api/v1/webhooks'],
    ['POST', '/api/v1/webhooks', body],
    ['GET', `/api/v1/webhooks/${id}`],
    ['PATCH', `/api/v1/webhooks/${id}`, {}],
    ['DELETE', `/api/v1/webhooks/${id}`],
    ['GET', `/api/v1/webhooks/${id}/deliveries`],
    ['POST', `/api/v1/webhooks/${id}/deliveries/evt_1/replay`],
  ] as const
  for (const [role, tenantId] of [
    ['viewer', admin.tenantId],
    ['operator', admin.tenantId],
    ['root', null],
  ] as const) {
    const client = await makeClient(role, tenantId)
    for (const [method, path, sent] of calls) {
      expect((await client.call(method, path, sent)).status, `${role}: ${method} ${path}`).toBe(403)
    }
  }
  const other = await makeTenant()
  for (const [method, path, sent] of calls.slice(2)) {
    expect((await other.call(method, path, sent)).body.code, `${method} ${path}`).toBe('webhook.not_found')
  }
  expect((await other.call('GET', '/api/v1/webhooks')).body.items).toEqual([])
  for (let count = 1; count < 50; count++) await makeWebhook(admin, body.url)
  expect(await admin.call('POST', '/api/v1/webhooks', body)).toMatchObject({
    status: 409,
    body: { code: 'webhook.limit' },
  })
  const first = (await admin.call('GET', '/api/v1/webhooks?limit=30')).body
  const rest = (await admin.call('GET', `/api/v1/webhooks?limit=30&cursor=${first.nextCursor}`)).body
  expect([first.items.length, rest.items.length, rest.nextCursor]).toEqual([30, 20, null])
})

it("a tenant's webhooks get the events that they subscribed to, and no other tenant's webhooks get them", async () => {
  const [admin, other] = [await makeTenant(), await makeTenant()]
  const [halted, both, theirs] = [makeReceiver(), makeReceiver(), makeReceiver()]
  const first = await makeWebhook(admin, halted.url)
  const second = await makeWebhook(admin, both.url, ['task.halted', 'device.failed'])
  await makeWebhook(other, theirs.url)
  const failed = makeEvent('evt_2', { type: 'device.failed', data: { deviceId: 'dev_1' } })
  await publishEvents(env, admin.tenantId, [
    makeEvent('evt_1'),
    failed,
    makeEvent('evt_3', { type: 'task.started' }),
  ])
  await untilDelivery(admin, first.id, 'evt_1', { state: 'delivered' })
  await untilDelivery(admin, second.id, 'evt_1', { state: 'delivered' })
  await untilDelivery(admin, second.id, 'evt_2', { state: 'delivered' })
  expect(await deliveriesOf(admin, first.id)).toHaveLength(1)
  expect((await deliveriesOf(admin, second.id)).map(({ id }) => id)).toEqual(['evt_2', 'evt_1'])
  const [request] = await halted.received()
  expect(verify(first.secret, request!)).toEqual({
    type: 'task.halted',
    timestamp: '2026-01-02T00:00:00.000Z',
    data: { taskId: 'tsk_1' },
  })
  expect(request!.headers).toMatchObject({
    'webhook-id': 'evt_1',
    'webhook-timestamp': expect.stringMatching(/^\d{10}$/),
    'content-type': 'application/json',
  })
  expect(() => verify(second.secret, request!)).toThrow('No matching signature')
  expect(await theirs.received()).toEqual([])
})

it('publishing fails if one webhook cannot be reached, and the repeat reaches each webhook once', async () => {
  const admin = await makeTenant()
  const receiver = makeReceiver()
  const { id } = await makeWebhook(admin, receiver.url)
  const broken = await makeWebhook(admin, receiver.url)
  const WEBHOOK_SENDER = {
    getByName: (name: string) =>
      name === broken.id
        ? { enqueue: () => Promise.reject(new Error('away')) }
        : env.WEBHOOK_SENDER.getByName(name),
  } as unknown as typeof env.WEBHOOK_SENDER
  await expect(
    publishEvents({ ...env, WEBHOOK_SENDER }, admin.tenantId, [makeEvent('evt_1')]),
  ).rejects.toThrow('away')
  await publishEvents(env, admin.tenantId, [makeEvent('evt_1')])
  for (const webhookId of [id, broken.id])
    await untilDelivery(admin, webhookId, 'evt_1', { state: 'delivered' })
  expect(await receiver.received()).toHaveLength(2)
})
