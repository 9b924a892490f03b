import { inspectRoutes } from 'hono/dev'
import { expect, it } from 'vitest'
import { app } from '../../../src/app.ts'
import { type Operation, partsOf, readOperations, type Schema } from './document.ts'

const operations = await readOperations()

/** Every schema of the document, with where it stands. */
const schemas: [name: string, schema: Schema][] = operations.flatMap(
  ({ method, path, parameters, bodies, answers }) => {
    const named: [string, Schema][] = [
      ...parameters.map(({ name, schema }): [string, Schema] => [`?${name}`, schema]),
      ...bodies,
      ...[...answers].flatMap(([status, types]) =>
        [...types.values()].map((schema): [string, Schema] => [status, schema]),
      ),
    ]
    return named.flatMap(([name, schema]) => [...partsOf(schema, `${method} ${path} ${name}`)])
  },
)

/** What fits each pattern of the document, and what does not. A new pattern needs a line. */
const SAMPLES: Record<string, [fits: string[], fails: string[]]> = {
  '^[^\\u0000-\\u001F\\u007F-\\u009F]*$': [
    ['', 'v1.0', '灯 💡', '\u00a0'],
    ['a\nb', '\u0000', '\u0085'],
  ],
  '^[A-Za-z0-9_-]{1,64}$': [
    ['a', 'A_-9', 'x'.repeat(64)],
    ['', 'a b', 'ü', 'x'.repeat(65), 'a\n'],
  ],
  '^[A-Za-z0-9_-]{16,64}$': [
    ['A_-9'.repeat(4), 'x'.repeat(64)],
    ['x'.repeat(15), 'x'.repeat(65), `${'x'.repeat(16)}\n`],
  ],
  '^([01]\\d|2[0-3]):[0-5]\\d$': [
    ['00:00', '23:59'],
    ['24:00', '1:00', '12:60'],
  ],
  '^[0-9a-fA-F]{64}$': [
    ['0'.repeat(64), 'aF'.repeat(32)],
    ['g'.repeat(64), '0'.repeat(63)],
  ],
  '^[A-Za-z0-9_-]{43}$': [['A'.repeat(43)], ['A'.repeat(42)]],
}

it('each pattern in the OpenAPI document is ECMA-262 without flags, and means what the server checks', () => {
  const patterns = new Set(schemas.flatMap(([, { pattern }]) => (pattern === undefined ? [] : [pattern])))
  expect([...patterns].toSorted()).toEqual(Object.keys(SAMPLES).toSorted())
  for (const pattern of patterns) {
    expect(pattern, 'no notation of a language, and nothing that only some engines know').not.toMatch(
      /^\/|\/[a-z]*$|\(\?|\\[pPk]/,
    )
    const [fits, fails] = SAMPLES[pattern]!
    // With the flag, a wrong escape is an error and not a letter.
    for (const expression of [new RegExp(pattern), new RegExp(pattern, 'u')]) {
      for (const text of fits) expect(expression.test(text), `${pattern} ${text}`).toBe(true)
      for (const text of fails) expect(expression.test(text), `${pattern} ${text}`).toBe(false)
    }
  }
})

it('each operation of the API says what a 503 and an error of the client look like', () => {
  for (const { method, path, answers } of operations) {
    if (path === '/healthz') continue
    for (const status of ['4XX', '503'])
      expect(answers.get(status)?.has('application/problem+json'), `${method} ${path} ${status}`).toBe(true)
  }
})

it('each route of the API is in the OpenAPI document', () => {
  const described = new Set(operations.map(({ method, path }: Operation) => `${method} ${path}`))
  for (const { method, path, isMiddleware } of inspectRoutes(app)) {
    if (isMiddleware || method === 'ALL' || !/^\/(api|bridge|broker|device)\//.test(path)) continue
    expect(described).toContain(`${method} ${path.replaceAll(/:(\w+)/g, '{$1}')}`)
  }
})
