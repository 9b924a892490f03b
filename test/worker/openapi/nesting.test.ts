import { expect, it } from 'vitest'
import { makeLab } from '../lab.ts'
import { readOperations, type Schema } from './document.ts'

/** `{"a":{"a":…0}}` or `{"a":[[…]]}`, so many deep. */
const objects = (depth: number) => `${'{"a":'.repeat(depth)}0${'}'.repeat(depth)}`
const arrays = (depth: number) => `{"a":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`

/** Objects of any JSON in a body, by the field's name. */
const freeFields = ({ properties = {} }: Schema) =>
  Object.entries<Schema>(properties)
    .filter(([, { additionalProperties }]) => typeof additionalProperties === 'object')
    .map(([name]) => name)

it('each field of free JSON takes 16 levels and refuses more with a 422, however deep', async () => {
  const { admin, productId } = await makeLab(0)
  const free = (await readOperations()).flatMap(({ method, path, bodies }) =>
    bodies.flatMap(([, schema]) =>
      freeFields(schema).map((field) => ({ method, path, field, required: schema.required as string[] })),
    ),
  )
  expect(free.map(({ method, path, field }) => `${method} ${path} ${field}`)).toContain(
    'POST /api/v1/packages extData',
  )
  let made = 0
  for (const { method, path, field, required } of free) {
    const post = (json: string) => {
      made++
      const others = required.map((name) => `"${name}":"${name === 'productId' ? productId : `v${made}`}",`)
      const body = `{${others.join('')}"${field}":${json}}`
      return admin.call(method, path, body, { 'content-type': 'application/json' })
    }
    for (const nested of [objects, arrays]) {
      for (const depth of [17, 100, 5_000, 1_000_000]) {
        const answer = await post(nested(depth))
        expect([answer.status, answer.body.errors?.[0]?.path], `${path} ${field} ${depth}`).toEqual([
          422,
          field,
        ])
      }
    }
    if (path !== '/api/v1/packages') continue
    for (const nested of [objects, arrays]) expect((await post(nested(16))).status, path).toBe(201)
  }
})
