import { env } from 'cloudflare:workers'
import { beforeAll, describe, expect, it } from 'vitest'
import { type Client, makeClient, makeTenant } from '../api.ts'

let operator: Client
const CSV = { 'content-type': 'text/csv' }
const NDJSON = { 'content-type': 'application/x-ndjson' }

beforeAll(async () => {
  operator = await makeClient('operator', (await makeTenant()).tenantId)
})

async function send(body: unknown, headers: Record<string, string> = CSV) {
  const product = await operator.call('POST', '/api/v1/products', { name: 'p' })
  const answer = await operator.call(
    'POST',
    `/api/v1/devices/import?productId=${product.body.id}`,
    body,
    headers,
  )
  const { results } = await env.DB.prepare(
    'SELECT number, name, access_token AS token, tags FROM devices WHERE product_id = ? ORDER BY number',
  )
    .bind(product.body.id)
    .all<{ number: string; name: string | null; token: string; tags: string }>()
  return { ...answer, rows: results }
}

let tokens = 0
const newToken = () => `token-${Date.now()}-${++tokens}`

describe('the tokens of a file are never ignored in silence', () => {
  it.each(['access_token', 'accessToken', 'token', 'access token', 'ACCESS-TOKEN'])(
    'column %s',
    async (column) => {
      const token = newToken()
      const { rows, body } = await send(`number,${column}\n1,${token}\n`)
      expect(rows).toMatchObject([{ number: '1', token }])
      expect(body.ignoredColumns).toEqual([])
    },
  )

  it.each(['access_token', 'accessToken', 'token'])('key %s', async (key) => {
    const token = newToken()
    const { rows } = await send(JSON.stringify({ number: '1', [key]: token }), NDJSON)
    expect(rows).toMatchObject([{ number: '1', token }])
  })

  it('what means nothing here is named', async () => {
    const csv = await send('number,colour,acces_token\n1,red,x\n')
    expect(csv.body).toMatchObject({ created: 1, ignoredColumns: ['colour', 'acces_token'] })
    const ndjson = await send('{"number":"1","colour":"red"}\n{"number":"2","size":1,"colour":1}', NDJSON)
    expect(ndjson.body).toMatchObject({ created: 2, ignoredColumns: ['colour', 'size'] })
  })

  it('two columns or keys for one field are refused', async () => {
    expect((await send('number,token,access_token\n1,a,b\n')).status).toBe(422)
    const { body } = await send('{"number":"1","token":"a","access_token":"b"}', NDJSON)
    expect(body).toMatchObject({ created: 0, rejectedCount: 1 })
  })
})

describe('what spreadsheets write is read', () => {
  it.each([
    ['semicolons', 'number;name;tags\n1;a,b;x|y\n'],
    ['tabs', 'number\tname\ttags\n1\ta,b\tx;y\n'],
    ['a line that names the separator', 'sep=;\r\nnumber;name;tags\r\n1;a,b;x|y\r\n'],
  ])('%s', async (_what, csv) => {
    expect((await send(csv)).rows).toMatchObject([{ number: '1', name: 'a,b', tags: '["x","y"]' }])
  })

  it('a line number counts the line that names the separator', async () => {
    const { body } = await send('sep=;\nnumber;name\n1;a\n;b\n')
    expect(body.rejected).toMatchObject([{ line: 4 }])
  })

  it.each(['le', 'be'])('UTF-16 %s', async (order) => {
    const text = '\ufeffnumber,name\r\n1,Küche 🙂\r\n'
    const bytes = new Uint8Array(text.length * 2)
    const view = new DataView(bytes.buffer)
    for (let at = 0; at < text.length; at++) view.setUint16(at * 2, text.charCodeAt(at), order === 'le')
    expect((await send(new Blob([bytes]).stream())).rows).toMatchObject([{ number: '1', name: 'Küche 🙂' }])
  })

  it.each(['8.66E+14', '8,66E+14', '1E+15'])(
    '%s is a number that a spreadsheet has changed',
    async (number) => {
      const { body } = await send(`number;name\n"${number}";a\n12E4;b\n`)
      expect(body).toMatchObject({ created: 1, rejectedCount: 1 })
      expect(body.rejected[0].reason).toContain(number)
    },
  )

  it('what a report escapes is read back', async () => {
    expect((await send("number,name\n'+49123,'=lamp\n'quoted,x\n")).rows).toMatchObject([
      { number: "'quoted" },
      { number: '+49123', name: '=lamp' },
    ])
  })
})

describe('what is no list of devices is refused as a whole', () => {
  it.each<[string, string, Record<string, string>, number]>([
    ['JSON', '[{"number":"1"}]', CSV, 422],
    ['a zip', 'PK\u0003\u0004xl/worksheets', CSV, 422],
    ['a page', '<!doctype html><title>x</title>', CSV, 422],
    ['nothing', '', CSV, 422],
    ['a JSON array', '[{"number":"1"}]', NDJSON, 422],
    ['a CSV', 'number,name\n1,a', NDJSON, 422],
    ['nothing', '', NDJSON, 422],
    ['a form', 'number,name', { 'content-type': 'application/x-www-form-urlencoded' }, 415],
    ['a compressed file', 'x', { ...CSV, 'content-encoding': 'gzip' }, 415],
  ])('%s', async (_what, body, headers, status) => {
    expect((await send(body, headers)).status).toBe(status)
  })
})
