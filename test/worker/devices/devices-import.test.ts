import { env } from 'cloudflare:workers'
import { beforeAll, expect, it } from 'vitest'
import { importDevices } from '../../../src/devices/import-devices.ts'
import { type Client, makeClient, makeTenant } from '../api.ts'

let operator: Client
let tenantId: string
const CSV = { 'content-type': 'text/csv' }
const NDJSON = { 'content-type': 'application/x-ndjson' }

beforeAll(async () => {
  ;({ tenantId } = await makeTenant())
  operator = await makeClient('operator', tenantId)
})

const newProduct = async (): Promise<string> =>
  (await operator.call('POST', '/api/v1/products', { name: 'p' })).body.id
const send = (productId: string, body: unknown, headers: Record<string, string> = CSV) =>
  operator.call('POST', `/api/v1/devices/import?productId=${productId}`, body, headers)

const rowsOf = async (productId: string) =>
  (
    await env.DB.prepare(
      'SELECT number, name, access_token AS token, tags FROM devices WHERE product_id = ? ORDER BY number',
    )
      .bind(productId)
      .all()
  ).results

/** A body that arrives in pieces of `size` bytes. */
function pieces(text: string, size: number): ReadableStream {
  const bytes = new TextEncoder().encode(text)
  let at = 0
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.length) return controller.close()
      controller.enqueue(bytes.slice(at, at + size))
      at += size
    },
  })
}

it('an import reads a CSV with its columns in any order, however it is cut into pieces and quoted', async () => {
  const productId = await newProduct()
  const csv =
    '\uFEFFTags, NUMBER ,colour,name,access_token\r\n' +
    'a; b|c,001,red,"Küche, ""Nord""",tok-001--------t\r\n' +
    '\r\n' +
    ',002,,,\r\n' +
    '"x",003,,"two\r\nlines",\r\n' +
    ',004,,5" panel,tok-004--------t'
  const answer = await send(productId, pieces(csv, 3))
  expect(answer).toMatchObject({ status: 200, body: { created: 3, updated: 0, rejectedCount: 1 } })
  expect(answer.body.rejected).toEqual([{ line: 6, reason: 'name: must not contain control characters' }])
  const token = expect.stringMatching(/^[A-Za-z0-9_-]{32}$/)
  expect(await rowsOf(productId)).toEqual([
    { number: '001', name: 'Küche, "Nord"', token: 'tok-001--------t', tags: '["a","b","c"]' },
    { number: '002', name: null, token, tags: '[]' },
    { number: '004', name: '5" panel', token: 'tok-004--------t', tags: '[]' },
  ])
})

it('an import updates a known number, but only the columns that the file has', async () => {
  const productId = await newProduct()
  await send(
    productId,
    'number,name,tags,access_token\n1,one,a,up-1-----------t\n2,two,b,up-2-----------t\n3,three,c,up-3-----------t',
  )
  const again = await send(productId, 'number,name\n1,uno\n2,two\n3,\n4,four')
  expect(again.body).toEqual({ created: 1, updated: 3, rejected: [], rejectedCount: 0, ignoredColumns: [] })
  expect(await rowsOf(productId)).toMatchObject([
    { number: '1', name: 'uno', token: 'up-1-----------t', tags: '["a"]' },
    { number: '2', name: 'two', token: 'up-2-----------t', tags: '["b"]' },
    { number: '3', name: null, token: 'up-3-----------t', tags: '["c"]' },
    { number: '4', name: 'four' },
  ])
  const tokens = await send(productId, 'number,access_token,tags\n1,up-1-new-------t,\n2,,z')
  expect(tokens.body).toMatchObject({ created: 0, updated: 2 })
  expect((await rowsOf(productId)).slice(0, 2)).toEqual([
    { number: '1', name: 'uno', token: 'up-1-new-------t', tags: '[]' },
    { number: '2', name: 'two', token: 'up-2-----------t', tags: '["z"]' },
  ])
})

it('an import lists the rows that it refuses, with the reasons, and takes the others', async () => {
  const [productId, other] = [await newProduct(), await newProduct()]
  await send(other, 'number,access_token\nx,taken-by-another')
  const device = { productId, number: 'basic', credentials: { username: 'imp-basic', password: 'p' } }
  await operator.call('POST', '/api/v1/devices', device)
  const csv = [
    'number,name,access_token,tags',
    'ok,,,',
    ',no number,,',
    `${'9'.repeat(65)},,,`,
    'bad-token,,a/b,',
    'ok,again,,',
    'thief,,taken-by-another,',
    'first,,twice-in-the-file,',
    'second,,twice-in-the-file,',
    'basic,,another-token-here,',
    'fine,,imported-and-fine,',
    'short,,only-15-of-them,',
  ].join('\n')
  const { body } = await send(productId, csv)
  expect(body).toMatchObject({ created: 3, updated: 0, rejectedCount: 8 })
  expect(body.rejected).toEqual([
    { line: 3, reason: 'number: must not be empty' },
    { line: 4, reason: 'number: must be at most 64 characters' },
    { line: 5, reason: 'accessToken: must be 1 to 64 characters of A-Z a-z 0-9 _ -' },
    { line: 6, reason: 'number: line 2 has it too' },
    { line: 7, reason: 'access_token: another device has it' },
    { line: 9, reason: 'access_token: line 8 has it too' },
    { line: 10, reason: 'access_token: the device has a username and password' },
    { line: 12, reason: 'access_token: must be 16 to 64 characters of A-Z a-z 0-9 _ -' },
  ])
})

it('an import reads one JSON object per line', async () => {
  const productId = await newProduct()
  const lines = [
    '{"number":"1","name":"Küche","tags":["a"],"accessToken":"nd-1-----------t","colour":"red"}',
    '',
    'nonsense',
    '[]',
    '{"number":2}',
    '{"number":"3","name":null}',
  ]
  const { body } = await send(productId, pieces(lines.join('\r\n'), 5), NDJSON)
  expect(body).toMatchObject({ created: 2, rejectedCount: 3 })
  expect(body.rejected.map(({ line }: { line: number }) => line)).toEqual([3, 4, 5])
  expect(body.rejected[0].reason).toBe('not JSON')
  expect((await rowsOf(productId))[0]).toEqual({
    number: '1',
    name: 'Küche',
    token: 'nd-1-----------t',
    tags: '["a"]',
  })
  const renamed = await send(productId, '{"number":"1","name":null}', NDJSON)
  expect(renamed.body).toMatchObject({ created: 0, updated: 1 })
  expect((await rowsOf(productId))[0]).toEqual({
    number: '1',
    name: null,
    token: 'nd-1-----------t',
    tags: '["a"]',
  })
})

it('a file that the import cannot read is refused', async () => {
  const productId = await newProduct()
  const refused = async (body: string, headers = CSV) => (await send(productId, body, headers)).body
  expect(await refused('')).toMatchObject({ status: 422, errors: [{ path: 'header' }] })
  expect(await refused('name,tags\na,b')).toMatchObject({
    status: 422,
    errors: [{ message: 'no column "number"' }],
  })
  expect(await refused('number,number\na,b')).toMatchObject({ status: 422 })
  const long = `number,name\n1,a\n2,${'x'.repeat(70_000)}\n3,c`
  expect(await refused(long)).toMatchObject({
    status: 422,
    code: 'import.unreadable',
    errors: [{ path: 'line 3' }],
  })
  expect((await rowsOf(productId)).map(({ number }) => number)).toEqual(['1'])
  expect(await refused('number,name\n1,"open\n2,b')).toMatchObject({ status: 422, code: 'import.unreadable' })
  const longJson = `{"number":"1"}\n{"number":"${'x'.repeat(70_000)}"}`
  expect(await refused(longJson, NDJSON)).toMatchObject({ status: 422, errors: [{ path: 'line 2' }] })
  expect((await send(productId, '[]', { 'content-type': 'application/json' })).status).toBe(415)
  expect((await send('prd_none', 'number\n1')).body.code).toBe('product.not_found')
  expect((await operator.call('POST', '/api/v1/devices/import', 'number\n1', CSV)).status).toBe(422)
  const other = await makeTenant()
  const foreign = await other.call('POST', `/api/v1/devices/import?productId=${productId}`, 'number\n1', CSV)
  expect(foreign.status).toBe(404)
})

it('an import takes 10,000 rows, and the same file again without writing a row', async () => {
  const productId = await newProduct()
  const rows = Array.from(
    { length: 10_000 },
    (_, i) => `N${i},Device ${i},many-of-them-${String(i).padStart(5, '0')},batch;b${i % 10}`,
  )
  const csv = `number,name,access_token,tags\n${rows.join('\n')}\n`
  expect((await send(productId, csv)).body).toEqual({
    created: 10_000,
    updated: 0,
    rejected: [],
    rejectedCount: 0,
    ignoredColumns: [],
  })
  await env.DB.prepare(
    "CREATE TRIGGER no_update BEFORE UPDATE ON devices BEGIN SELECT RAISE(ABORT, 'written'); END",
  ).run()
  expect((await send(productId, csv)).body).toMatchObject({
    created: 0,
    updated: 10_000,
    rejectedCount: 0,
    ignoredColumns: [],
  })
  await env.DB.prepare('DROP TRIGGER no_update').run()
  const renamed = csv.replaceAll('Device', 'Lamp')
  expect((await send(productId, renamed)).body).toMatchObject({ created: 0, updated: 10_000 })
  expect((await rowsOf(productId))[0]).toMatchObject({
    number: 'N0',
    name: 'Lamp 0',
    token: 'many-of-them-00000',
  })
})

it('an import takes at most 200,000 rows and lists at most 1,000 rejected ones', async () => {
  const productId = await newProduct()
  const bad = `number\n${'\t\u0001\n'.repeat(1_500)}`
  const { body } = await send(productId, bad)
  expect(body).toMatchObject({ created: 0, rejectedCount: 1_500 })
  expect(body.rejected).toHaveLength(1_000)
  const answer = await send(productId, `number\n${'\u0001\n'.repeat(200_001)}`)
  expect(answer.body).toMatchObject({ status: 413, code: 'import.too_large' })
})

it('the rows read before a file breaks off stay imported', async () => {
  const rows = Array.from({ length: 3_000 }, (_, i) => i)
  for (const [format, text] of [
    ['ndjson', rows.map((i) => `{"number":"${i}"}`).join('\n')],
    ['csv', `number\n${rows.join('\n')}`],
  ] as const) {
    const product = { id: await newProduct(), tenantId }
    let sent = false
    const broken = new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          if (sent) return controller.error(new Error('gone'))
          sent = true
          controller.enqueue(new TextEncoder().encode(text))
        },
      },
      { highWaterMark: 0 },
    )
    const fault = await importDevices(env.DB, product, broken, format, Date.now(), async () => {}).catch(
      (error) => error,
    )
    expect(fault).toMatchObject({ status: 400, code: 'import.cut_off' })
    expect(await rowsOf(product.id)).toHaveLength(2_999)
  }
})
