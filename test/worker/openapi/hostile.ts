import fc from 'fast-check'
import type { Sketch } from './valid.ts'

const DEEP = 20_000
const nested = (open: string, close: string) => open.repeat(DEEP) + close.repeat(DEEP)

/** Texts that break what is put together or counted without care. */
const TEXTS = [
  '',
  ' ',
  '\u0000',
  'a\u0000b',
  '\ud800',
  '\u202e\ufeff',
  '💥'.repeat(64),
  'x'.repeat(65),
  'x'.repeat(20_000),
  "' OR 1=1 --",
  '%_*?[',
  '../../..',
  '__proto__',
  'constructor',
  '=1+1',
  '9'.repeat(30),
  '1e999',
  '-1',
  'NaN',
  'null',
  '2026-02-31T25:61:00Z',
  '+275760-09-14T00:00:00Z',
  'http://[::1',
  'javascript:alert(1)',
]

/** As JSON, since some have no JavaScript value. */
const JSONS = [
  ...['null', 'true', '[]', '{}', '[[[[1]]]]', '{"a":{"b":{"c":[]}}}', '{"__proto__":{"polluted":true}}'],
  ...['0', '-0', '-1', '0.5', '1e308', '1e999', '-1e999', '9007199254740993', '1e-400', '4294967296'],
  ...[nested('[', ']'), nested('{"a":', '}').replace('}', '0}'), `"${'\\u0000'.repeat(200)}"`],
  ...TEXTS.map((text) => JSON.stringify(text)),
]

/** Bodies that are no JSON of anything. */
const RAW = [
  '',
  '{',
  '{"a":1',
  '\ufeff{}',
  'null',
  '"text"',
  '[]',
  '{}{}',
  '{"name":"a","name":"b"}',
  nested('[', ']'),
  'a=b&c=d',
  '--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--',
  'x'.repeat(200_000),
  new Uint8Array([0xff, 0xfe, 0x00, 0xc3, 0x28]),
  new Uint8Array(0),
]

const HEADERS: Record<string, string[]> = {
  'content-type': [
    '',
    'application/json',
    'application/json; charset=latin1',
    'application/vnd.x+json',
    'text/plain',
    'text/csv',
    'application/x-ndjson',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/octet-stream',
    'a/b/c;;=',
  ],
  'content-encoding': ['gzip', 'identity', 'br, x'],
  'idempotency-key': ['', 'k', 'k', 'x'.repeat(300), 'é'],
  'x-content-sha256': ['0'.repeat(64), 'Z', ''],
  'content-length': ['0', '5', '-1', '1e9', 'x'],
  range: ['bytes=0-', 'bytes=9-1', 'x'],
  accept: ['text/html', '*/*;q=x'],
  upgrade: ['websocket', 'h2c'],
  authorization: ['', 'Bearer', 'Bearer x', 'Basic Og==', 'Basic !', `Bearer eota_${'A'.repeat(43)}`],
}

/** Replaces a value somewhere in a JSON body by this marker, which `toText` turns into the hostile JSON. */
const MARKER = '@@hostile@@'

export interface HostileSketch extends Sketch {
  /** JSON in place of each marker in the body. */
  planted: string[]
}

type Change = (sketch: HostileSketch) => HostileSketch

const texts = fc.oneof(fc.constantFrom(...TEXTS), fc.string({ unit: 'binary', maxLength: 70 }))
const jsons = fc.oneof(fc.constantFrom(...JSONS), fc.json())

/** A few changes to a request that was valid: some leave it nearly so. `strange` are names of what belongs to others. */
export const hostileChanges = (strange: string[]): fc.Arbitrary<Change[]> =>
  fc.array(
    fc.oneof(
      { weight: 4, arbitrary: fc.tuple(fc.nat(), jsons).map(plant) },
      { weight: 2, arbitrary: fc.nat().map(takeAway) },
      { weight: 1, arbitrary: fc.tuple(texts, jsons).map(add) },
      {
        weight: 1,
        arbitrary: fc.constantFrom(...RAW).map(
          (body): Change =>
            (sketch) => ({ ...sketch, body }),
        ),
      },
      { weight: 1, arbitrary: fc.constant<Change>((sketch) => ({ ...sketch, body: undefined })) },
      { weight: 2, arbitrary: fc.tuple(fc.nat(), texts).map(inQuery) },
      {
        weight: 1,
        arbitrary: fc.tuple(fc.constantFrom('cursor', 'limit', 'after', 'q'), texts).map(addQuery),
      },
      { weight: 2, arbitrary: fc.tuple(fc.nat(), fc.oneof(texts, fc.constantFrom(...strange))).map(inPath) },
      { weight: 2, arbitrary: fc.constantFrom(...Object.keys(HEADERS)).chain(inHeaders) },
    ),
    { minLength: 1, maxLength: 3 },
  )

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !ArrayBuffer.isView(value)

/** Every object or array in the body with each of its keys. */
function placesIn(body: unknown): [holder: Record<string, unknown>, key: string][] {
  if (!isObject(body)) return []
  return Object.entries(body).flatMap(([key, value]) => [
    [body, key] as [typeof body, string],
    ...placesIn(value),
  ])
}

function edited(sketch: HostileSketch, edit: (body: unknown) => unknown): HostileSketch {
  return { ...sketch, body: edit(isObject(sketch.body) ? structuredClone(sketch.body) : sketch.body) }
}

const plant =
  ([at, json]: [number, string]): Change =>
  (sketch) => {
    const planted = [...sketch.planted, json]
    const next = edited(sketch, (body) => {
      const places = placesIn(body)
      if (places.length === 0) return MARKER
      const [holder, key] = places[at % places.length]!
      Object.defineProperty(holder, key, { value: MARKER, enumerable: true })
      return body
    })
    return { ...next, planted }
  }

const takeAway =
  (at: number): Change =>
  (sketch) =>
    edited(sketch, (body) => {
      const places = placesIn(body)
      const [holder, key] = places[at % Math.max(1, places.length)] ?? []
      if (holder && !Array.isArray(holder)) delete holder[key!]
      return body
    })

const add =
  ([key, json]: [string, string]): Change =>
  (sketch) => ({
    ...edited(sketch, (body) => {
      if (isObject(body) && !Array.isArray(body)) {
        Object.defineProperty(body, key, { value: MARKER, enumerable: true, configurable: true })
      }
      return body
    }),
    planted: [...sketch.planted, json],
  })

const inQuery =
  ([at, value]: [number, string]): Change =>
  (sketch) => ({
    ...sketch,
    query: sketch.query.map((pair, index) => (index === at % sketch.query.length ? [pair[0], value] : pair)),
  })

const addQuery =
  (pair: [string, string]): Change =>
  (sketch) => ({ ...sketch, query: [...sketch.query, pair] })

const inPath =
  ([at, value]: [number, string]): Change =>
  (sketch) => {
    const names = Object.keys(sketch.path)
    const name = names[at % Math.max(1, names.length)]
    return name === undefined ? sketch : { ...sketch, path: { ...sketch.path, [name]: value } }
  }

const inHeaders = (name: string) =>
  fc.constantFrom(...HEADERS[name]!).map(
    (value): Change =>
      (sketch) => ({ ...sketch, headers: { ...sketch.headers, [name]: value } }),
  )

/** The body's JSON text, with what was planted in it. */
export function toText({ body, planted }: HostileSketch): string {
  const left = [...planted]
  return (JSON.stringify(body) ?? '').replaceAll(JSON.stringify(MARKER), () => left.shift() ?? 'null')
}
