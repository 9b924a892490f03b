import { caller } from '../api.ts'

// biome-ignore lint/suspicious/noExplicitAny: a JSON Schema may have anything anywhere
export type Schema = Record<string, any>

export interface Operation {
  method: string
  /** With `{name}` for each parameter. */
  path: string
  parameters: { in: 'path' | 'query' | 'header'; name: string; required: boolean; schema: Schema }[]
  /** By media type; empty if the operation takes no body. */
  bodies: [type: string, schema: Schema][]
  isBodyRequired: boolean
  /** By status, such as `200` or `4XX`: the media types and their schemas. */
  answers: Map<string, Map<string, Schema>>
}

const METHODS = ['get', 'post', 'put', 'patch', 'delete']

/** The operations of `/openapi.json`, in its order, with every reference and `allOf` resolved. */
export async function readOperations(): Promise<Operation[]> {
  const { body: document } = await caller(undefined)('GET', '/openapi.json')
  const schemas: Record<string, Schema> = document.components.schemas
  const schemasOf = (content: Record<string, { schema: Schema }> = {}) =>
    Object.entries(content).map(([type, { schema }]) => [type, resolve(schema, schemas)] as [string, Schema])
  return Object.entries<Schema>(document.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method): Operation => {
      const { parameters = [], requestBody, responses } = item[method]
      return {
        method: method.toUpperCase(),
        path,
        parameters: parameters.map((parameter: Schema) => ({
          ...parameter,
          required: parameter.required === true,
          schema: resolve(parameter.schema, schemas),
        })),
        bodies: schemasOf(requestBody?.content),
        isBodyRequired: requestBody?.required === true,
        answers: new Map(
          Object.entries<Schema>(responses).map(([status, { content }]) => [
            status,
            new Map(schemasOf(content)),
          ]),
        ),
      }
    }),
  )
}

function resolve(schema: Schema, schemas: Record<string, Schema>): Schema {
  const { $ref, allOf, properties, items, anyOf, additionalProperties, ...rest } = schema
  if ($ref) return resolve(schemas[$ref.split('/').at(-1)!]!, schemas)
  const own: Schema = { ...rest }
  if (properties) {
    own.properties = Object.fromEntries(
      Object.entries<Schema>(properties).map(([name, part]) => [name, resolve(part, schemas)]),
    )
  }
  if (items) own.items = resolve(items, schemas)
  if (anyOf) own.anyOf = anyOf.map((part: Schema) => resolve(part, schemas))
  if (additionalProperties !== undefined) {
    own.additionalProperties =
      typeof additionalProperties === 'object' ? resolve(additionalProperties, schemas) : additionalProperties
  }
  return (allOf ?? []).map((part: Schema) => resolve(part, schemas)).reduce(merge, own)
}

const merge = (one: Schema, other: Schema): Schema => ({
  ...one,
  ...other,
  ...((one.properties || other.properties) && { properties: { ...one.properties, ...other.properties } }),
  ...((one.required || other.required) && {
    required: [...new Set([...(one.required ?? []), ...(other.required ?? [])])],
  }),
})

/** Every schema inside a schema, itself first, with a name for messages. */
export function* partsOf(schema: Schema, name: string): Generator<[name: string, schema: Schema]> {
  yield [name, schema]
  for (const [key, part] of Object.entries<Schema>(schema.properties ?? {}))
    yield* partsOf(part, `${name}.${key}`)
  if (schema.items) yield* partsOf(schema.items, `${name}[]`)
  for (const [index, part] of (schema.anyOf ?? []).entries()) yield* partsOf(part, `${name}|${index}`)
  if (typeof schema.additionalProperties === 'object')
    yield* partsOf(schema.additionalProperties, `${name}.*`)
}
