import { exports } from 'cloudflare:workers'
import { inspectRoutes } from 'hono/dev'
import { beforeAll, expect, it } from 'vitest'
import { app } from '../../../src/app.ts'
import { newKey } from '../../../src/auth/key.ts'
import { admits } from '../../../src/auth/middleware.ts'
import { rolesOfRoute } from '../../../src/auth/route-roles.ts'
import type { Role } from '../../../src/http/principal.ts'
import { type Answer, type Client, makeClient } from '../api.ts'
import { type Lab, makeLab, reports } from '../lab.ts'
import { type Ids, namesThings, type Operation, readOperations, toCall } from './document-calls.ts'

// Every route × every principal. The calls are made from the OpenAPI document, which has the roles of each call from the
// routes themselves, and from the console's routes: a new route is covered without a line here.

/** Whoever calls. `role` is null if it is no key, or none that counts. */
interface Caller {
  name: string
  authorization: string | null
  role: Role | null
  /** Whether it is of the tenant whose things the calls name. */
  isOwn: boolean
  isDevice?: boolean
}

/** The only calls that take nothing. */
const PUBLIC = ['GET /healthz']

let lab: Lab
let operations: Operation[]
let callers: Caller[]
/** The things of the first tenant. */
let ids: Ids
/** What nobody else may see. */
let secrets: string[]
let visits = 0

/** Each call comes from an address of its own, so that no limit of addresses answers first. */
const fromNewAddress = () => ({ 'cf-connecting-ip': `2001:db8:${(++visits).toString(16)}::1` })

async function call(who: Caller, operation: Operation, named: Ids): Promise<Answer & { text: string }> {
  const { path, body, headers } = toCall(operation, named)
  const isText = typeof body === 'string'
  const response = await exports.default.fetch(`http://edge-ota.test${path}`, {
    method: operation.method,
    redirect: 'manual',
    headers: {
      ...fromNewAddress(),
      ...(who.authorization !== null && { authorization: who.authorization }),
      ...(body !== undefined && !isText && { 'content-type': 'application/json' }),
      ...(headers as Record<string, string>),
    },
    ...(body !== undefined && { body: isText ? body : JSON.stringify(body) }),
  })
  const text = await response.text()
  return { status: response.status, headers: response.headers, body: undefined, text }
}

beforeAll(async () => {
  lab = await makeLab(2)
  const [device, other] = lab.devices
  await lab.bridge.post([reports(device!, 'v1')])
  const { admin } = lab
  const packageId = await lab.addPackage('v2')
  const task = await admin.call('POST', '/api/v1/tasks', { packageId, name: 't', devices: 'all' })
  await lab.push(device!)
  const draft = await admin.call('POST', '/api/v1/packages', {
    productId: lab.productId,
    name: 'p',
    version: 'v3',
  })
  const uploads = await admin.call('POST', `/api/v1/packages/${draft.body.id}/uploads`, { size: 10 })
  const hook = await admin.call('POST', '/api/v1/webhooks', {
    url: 'https://example.com/hook',
    events: ['task.finished'],
  })
  const viewer = await admin.call('POST', '/api/v1/keys', { name: 'v', role: 'viewer' })
  const revoked = await admin.call('POST', '/api/v1/keys', { name: 'r', role: 'admin' })
  await admin.call('DELETE', `/api/v1/keys/${revoked.body.id}`)
  const credentials = { username: `basic-${device!.id}`, password: 'secret' }
  const basic = await admin.call('POST', '/api/v1/devices', {
    productId: lab.productId,
    number: 'b',
    credentials,
  })
  ids = {
    '/products': lab.productId,
    productId: lab.productId,
    '/devices': device!.id,
    deviceId: device!.id,
    '/packages': draft.body.id,
    packageId,
    '/uploads': uploads.body.uploadId,
    '/tasks': task.body.id,
    '/keys': viewer.body.id,
    tenantId: admin.tenantId,
    '/webhooks': hook.body.id,
    '/deliveries': '1',
    role: 'viewer',
  }
  secrets = [
    ...Object.values(ids).filter((id) => id.includes('_')),
    basic.body.id,
    device!.token,
    other!.token,
  ]

  const stranger = await makeLab(1)
  const own = (role: Role, client: Client): Caller => asKey(`its ${role}`, role, client, true)
  const theirs = async (role: Role): Promise<Caller> =>
    asKey(
      `another tenant's ${role}`,
      role,
      await makeClient(role, stranger.admin.tenantId, role === 'bridge' ? 'default' : undefined),
      false,
    )
  const nobody = { role: null, isOwn: false }
  callers = [
    { name: 'nobody', authorization: null, ...nobody },
    { name: 'a key that nobody has', authorization: `Bearer ${newKey()}`, ...nobody },
    { name: 'a revoked key', authorization: `Bearer ${revoked.body.key}`, ...nobody },
    { name: 'its device', authorization: `Bearer ${device!.token}`, role: null, isOwn: true, isDevice: true },
    {
      name: 'its device with a password',
      authorization: `Basic ${btoa(`${credentials.username}:${credentials.password}`)}`,
      role: null,
      isOwn: true,
      isDevice: true,
    },
    {
      name: "another tenant's device",
      authorization: `Bearer ${stranger.devices[0]!.token}`,
      role: null,
      isOwn: false,
      isDevice: true,
    },
    { name: 'a username as a token', authorization: `Bearer ${credentials.username}`, ...nobody },
    own('viewer', await makeClient('viewer', admin.tenantId)),
    own('operator', await makeClient('operator', admin.tenantId)),
    own('admin', admin),
    own('bridge', lab.bridge.client),
    asKey('root', 'root', await makeClient('root', null), true),
    asKey('a shared bridge', 'bridge', await makeClient('bridge', null, 'principals'), false),
    ...(await Promise.all((['viewer', 'operator', 'admin', 'bridge'] as const).map(theirs))),
  ]
  operations = await readOperations()
})

const asKey = (name: string, role: Role, { key }: Client, isOwn: boolean): Caller => ({
  name,
  authorization: `Bearer ${key}`,
  role,
  isOwn,
})

const rolesOf = ({ security }: Operation) => security.flatMap(({ key }) => key ?? []) as Role[]
const isForDevices = ({ security }: Operation) => security.some((one) => 'deviceToken' in one)
const hasRole = (who: Caller, operation: Operation) =>
  isForDevices(operation)
    ? who.isDevice === true
    : who.role !== null && rolesOf(operation).some((role) => admits(role, who.role!))
const nameOf = ({ method, template }: Operation) => `${method} ${template}`

it('every call says whom it takes, and no more are public than are meant to be', () => {
  expect(operations.length).toBeGreaterThan(50)
  const open = operations.filter(({ security }) => security.length === 0)
  expect(open.map(nameOf)).toEqual(PUBLIC)
  const unnamed = operations.filter(
    (operation) => !open.includes(operation) && !isForDevices(operation) && rolesOf(operation).length === 0,
  )
  expect(unnamed.map(nameOf)).toEqual([])
})

it('every route of the API is in the document', () => {
  const documented = new Set(
    operations.map(({ method, template }) => `${method} ${template.replaceAll(/\{(\w+)\}/g, ':$1')}`),
  )
  const routes = inspectRoutes(app).filter(({ isMiddleware, method }) => !isMiddleware && method !== 'ALL')
  const missing = routes.filter(
    ({ method, path }) =>
      /^\/(api|bridge|broker|device)\//.test(path) && !documented.has(`${method} ${path}`),
  )
  expect(missing.map(({ method, path }) => `${method} ${path}`)).toEqual([])
})

it('every call is refused to all who do not belong, and shows them nothing', async () => {
  const faults: string[] = []
  const before = await snapshot()
  for (const operation of operations.filter(({ security }) => security.length > 0)) {
    for (const who of callers) {
      const mayCall = hasRole(who, operation)
      // Who belongs is not called here: it would change what the others are refused.
      if (mayCall && who.isOwn) continue
      const { status, text } = await call(who, operation, ids)
      const fault = (what: string) => faults.push(`${nameOf(operation)}, ${who.name}: ${status} ${what}`)
      const isKey = who.role !== null && !isForDevices(operation)
      if (!mayCall && status !== (isKey ? 403 : 401)) fault('instead of a refusal')
      if (mayCall && namesThings(operation, ids) && ![403, 404].includes(status)) fault('instead of a 404')
      if (status >= 500) fault('is a failure')
      const asked = JSON.stringify(toCall(operation, ids))
      const shown = secrets.filter((secret) => text.includes(secret) && !asked.includes(secret))
      if (shown.length > 0) fault(`shows ${shown.join(', ')}`)
    }
  }
  expect(faults).toEqual([])
  expect(await snapshot()).toEqual(before)
})

it('every call is open to whoever belongs', async () => {
  const faults: string[] = []
  const nothing: Ids = { role: 'viewer' }
  for (const operation of operations.filter(({ security }) => security.length > 0)) {
    for (const who of callers.filter((one) => hasRole(one, operation))) {
      const { status } = await call(who, operation, nothing)
      // A bridge may only call by its own name.
      const isOther = status === 403 && operation.template === '/bridge/v1/messages'
      if (([401, 403].includes(status) && !isOther) || status >= 500) {
        faults.push(`${nameOf(operation)}, ${who.name}: ${status}`)
      }
    }
  }
  expect(faults).toEqual([])
})

/** The first tenant's things, as its admin sees them. */
async function snapshot() {
  const { call: ask } = lab.admin
  const paths = [
    `/api/v1/products/${ids['/products']}`,
    `/api/v1/devices/${ids['/devices']}`,
    `/api/v1/packages/${ids['/packages']}`,
    `/api/v1/tasks/${ids['/tasks']}`,
    `/api/v1/tasks/${ids['/tasks']}/devices`,
    `/api/v1/packages/${ids['/packages']}/uploads/${ids['/uploads']}`,
    `/api/v1/webhooks/${ids['/webhooks']}`,
    '/api/v1/products',
    '/api/v1/devices',
    '/api/v1/packages',
    '/api/v1/tasks',
    '/api/v1/webhooks',
  ]
  const keys = (await ask('GET', '/api/v1/keys')).body.items
  return [
    ...(await Promise.all(paths.map(async (path) => (await ask('GET', path)).body))),
    keys.map(({ lastUsedAt: _, ...key }: { lastUsedAt: string }) => key),
  ]
}

// ---- The console ------------------------------------------------------------------------------------------

/** The console's routes that are for people who have signed in. */
const pages = inspectRoutes(app)
  .filter(({ isMiddleware, method }) => !isMiddleware && method !== 'ALL')
  .filter(
    ({ path }) =>
      !/^\/(api|bridge|broker|device|d|assets)\//.test(path) &&
      !['/healthz', '/openapi.json', '/docs', '/favicon.ico', '/sign-in', '/sign-out', '/language'].includes(
        path,
      ),
  )
const kindOfPage = (path: string) =>
  path.replaceAll(/\/([\w-]+)\/:\w+/g, (_, kind) => `/${kind}/${ids[`/${kind}`] ?? 'none'}`)
const rolesOfPage = (method: string, path: string) => rolesOfRoute(app.routes, method, path) ?? ['viewer']
const origin = 'http://edge-ota.test'

async function session(key: string): Promise<string> {
  const answer = await exports.default.fetch(`${origin}/sign-in`, {
    method: 'POST',
    redirect: 'manual',
    body: new URLSearchParams({ key }),
    headers: { origin, ...fromNewAddress() },
  })
  return answer.headers.get('set-cookie')?.split(';')[0] ?? ''
}

const visit = async (method: string, path: string, headers: Record<string, string>) => {
  const answer = await exports.default.fetch(origin + path, {
    method,
    redirect: 'manual',
    // A route of a WebSocket answers with one.
    headers: { origin, ...(method === 'GET' && { upgrade: 'websocket' }), ...fromNewAddress(), ...headers },
  })
  return { status: answer.status, location: answer.headers.get('location'), text: await answer.text() }
}

it('every page of the console leads whoever has no session to the sign-in, also with a key or token', async () => {
  expect(pages.length).toBeGreaterThan(20)
  for (const { method, path } of pages) {
    for (const { name, authorization } of callers) {
      const headers = { ...(authorization !== null && { authorization }) }
      const { status, location } = await visit(method, kindOfPage(path), headers)
      expect([method, path, name, status]).toEqual([method, path, name, 303])
      expect(location).toMatch(/^\/sign-in\?to=/)
      const part = await visit(method, kindOfPage(path), { ...headers, 'hx-request': 'true' })
      expect([method, path, name, part.status]).toEqual([method, path, name, 401])
    }
  }
})

it('keys of bridges and of the installation, and revoked ones, get no session', async () => {
  for (const { authorization, role, name } of callers) {
    const cookie = await session(authorization?.replace(/^Bearer /, '') ?? '')
    const isPerson = role !== null && ['viewer', 'operator', 'admin'].includes(role)
    expect([name, cookie !== '']).toEqual([name, isPerson])
  }
})

it('every page of the console is refused to another tenant, and to roles below its own', async () => {
  const faults: string[] = []
  for (const who of callers) {
    const cookie = await session(who.authorization?.replace(/^Bearer /, '') ?? '')
    if (cookie === '') continue
    for (const { method, path } of pages) {
      const { status, text } = await visit(method, kindOfPage(path), { cookie })
      const fault = (what: string) => faults.push(`${method} ${path}, ${who.name}: ${status} ${what}`)
      const mayOpen = rolesOfPage(method, path).some((role) => admits(role, who.role!))
      if (!mayOpen && status !== 403) fault('instead of a 403')
      if (mayOpen && !who.isOwn && path.includes(':') && status !== 404) fault('instead of a 404')
      if (mayOpen && who.isOwn && (status === 401 || status === 403)) fault('although it belongs')
      if (status >= 500) fault('is a failure')
      if (!who.isOwn || !mayOpen) {
        const shown = secrets.filter((secret) => text.includes(secret) && !kindOfPage(path).includes(secret))
        if (shown.length > 0) fault(`shows ${shown.join(', ')}`)
      }
    }
  }
  expect(faults).toEqual([])
})

it('a session changes nothing for a page of another site', async () => {
  const cookie = await session(lab.admin.key)
  const changing = pages.filter(({ method }) => method !== 'GET')
  expect(changing.length).toBeGreaterThan(0)
  for (const { method, path } of changing) {
    const { status } = await visit(method, kindOfPage(path), { cookie, origin: 'https://evil.example' })
    expect([method, path, status]).toEqual([method, path, 403])
  }
  for (const operation of operations.filter((one) => one.method !== 'GET' && rolesOf(one).length > 0)) {
    const { path } = toCall(operation, ids)
    const { status } = await visit(operation.method, path, { cookie, origin: 'https://evil.example' })
    expect([operation.method, path, status]).toEqual([operation.method, path, 401])
  }
})
