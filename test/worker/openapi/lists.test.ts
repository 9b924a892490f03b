import { env } from 'cloudflare:workers'
import { Buffer } from 'node:buffer'
import { expect, it } from 'vitest'
import { webhookSender } from '../../../src/webhooks/sender-stub.ts'
import { type Client, makeClient } from '../api.ts'
import { makeLab, outcomeOf, progresses, reports } from '../lab.ts'
import { until } from '../lab-clock.ts'
import { readOperations } from './document.ts'
import { newPublicKey } from './fixture.ts'

/** Every list of the OpenAPI document. */
const lists = (await readOperations()).filter(
  ({ method, parameters }) => method === 'GET' && parameters.some(({ name }) => name === 'cursor'),
)

/** Lists of tenants. */
const OF_ROOT = ['/api/v1/tenants', '/api/v1/usage']

interface World {
  call: (path: string) => Client['call']
  /** The address of the list. */
  at: (path: string) => string
}

/** A tenant with at least two of everything that is listed. */
async function makeWorld(): Promise<World> {
  const lab = await makeLab(2)
  const root = await makeClient('root', null)
  const { admin, productId, bridge } = lab
  const device = lab.devices[0]!
  const make = async (path: string, body: unknown, client: Client = admin) => {
    const made = await client.call('POST', `/api/v1${path}`, body)
    expect(made.status, JSON.stringify(made.body)).toBe(201)
    return made.body
  }
  let taskId = ''
  for (const version of ['v2', 'v3']) {
    const task = await lab.upgradeTo(version)
    taskId = task.id
    await lab.push(device)
    await bridge.post([progresses(device, 100), reports(device, version)])
    await until('it ended', async () => (await outcomeOf(task, device)) !== null)
  }
  await make('/products', { name: 'second' })
  for (const name of ['first', 'second']) {
    await make(`/products/${productId}/signing-keys`, { name, publicKey: await newPublicKey() })
  }
  await make('/keys', { name: 'second', role: 'viewer' })
  await make('/tenants', { name: 'another' }, root)
  const url = 'https://hooks.example.com/ota'
  const { id: webhookId } = await make('/webhooks', { url, events: ['bridge.away'] })
  await make('/webhooks', { url: `${url}/2`, events: ['bridge.away'] })
  const events = [1, 2].map((n) => ({
    id: `evt_${webhookId}_${n}`,
    type: 'bridge.away' as const,
    at: Date.now(),
    data: { bridge: 'default' },
  }))
  await webhookSender(env, webhookId).enqueue({ tenantId: admin.tenantId, webhookId }, events)
  expect(productId).toBeTruthy()
  const ids: Record<string, string> = {
    devices: device.id,
    tasks: taskId,
    webhooks: webhookId,
    products: productId,
  }
  return {
    call: (path) => (OF_ROOT.includes(path) ? root.call : admin.call),
    at: (path) => path.replace('{id}', ids[path.split('/')[3]!] ?? ''),
  }
}

it('each list goes on with its cursor, to its end, and refuses one that is none, on every page', async () => {
  const [world, other] = [await makeWorld(), await makeWorld()]
  const cursors = new Map<string, string>()
  const ask = (path: string, query: Record<string, string>, { call, at } = world) =>
    call(path)('GET', `${at(path)}?${new URLSearchParams(query)}`)
  for (const { path } of lists) {
    const first = await ask(path, { limit: '1' })
    expect([first.status, typeof first.body.nextCursor], `${path} ${JSON.stringify(first.body)}`).toEqual([
      200,
      'string',
    ])
    cursors.set(path, first.body.nextCursor)
  }
  expect(lists.length).toBeGreaterThan(9)
  for (const { path, parameters } of lists) {
    const cursor = cursors.get(path)!
    const all = await ask(path, { limit: '200' })
    const rest = await ask(path, { limit: '200', cursor })
    expect(rest.status, path).toBe(200)
    expect(rest.body.items.at(-1), path).toEqual(all.body.items.at(-1))
    expect(rest.body.items.length, path).toBeLessThan(all.body.items.length)
    const foreign = await ask(path, { limit: '1' }, other)
    const otherLists = [...cursors].filter(([list]) => list !== path)
    const id = Object.values<string>(all.body.items[0]).find((value) => /^[a-z]{3}_/.test(value)) ?? 'dev_1'
    const bad = [
      ...['', 'x', '0', '999999', 'null', '../..', '\u0000', '💡', id, Buffer.from(id).toString('base64url')],
      ...[
        cursor.slice(0, -1),
        cursor.slice(1),
        `${cursor}A`,
        `${cursor} `,
        cursor.toLowerCase(),
        cursor + cursor,
      ],
      ...otherLists.map(([, theirs]) => theirs),
      // Root's lists are one list for all tenants.
      ...(OF_ROOT.includes(path) ? [] : [foreign.body.nextCursor]),
    ]
    for (const wrong of bad) {
      const answer = await ask(path, { limit: '1', cursor: wrong })
      expect([answer.status, answer.body.errors?.[0]?.path], `${path} ${JSON.stringify(wrong)}`).toEqual([
        422,
        'cursor',
      ])
    }
    const sorts = parameters.find(({ name }) => name === 'sort')?.schema.enum ?? []
    for (const sort of sorts.slice(1)) {
      expect((await ask(path, { limit: '1', cursor, sort })).status, `${path} ${sort}`).toBe(422)
    }
  }
})

it("a cursor of one task's devices is refused for another's", async () => {
  const lab = await makeLab(2)
  const [one, two] = [await lab.upgradeTo('v2'), await lab.upgradeTo('v3')]
  for (const task of [one, two]) {
    await until('it has its devices', async () => (await task.get()).counts.total === 2)
  }
  const pathOf = ({ id }: { id: string }) => `/api/v1/tasks/${id}/devices?limit=1`
  const { body } = await lab.admin.call('GET', pathOf(one))
  expect((await lab.admin.call('GET', `${pathOf(one)}&cursor=${body.nextCursor}`)).status).toBe(200)
  expect((await lab.admin.call('GET', `${pathOf(two)}&cursor=${body.nextCursor}`)).status).toBe(422)
})
