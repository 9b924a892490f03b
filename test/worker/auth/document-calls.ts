import { caller } from '../api.ts'

/** A call that the OpenAPI document describes. */
export interface Operation {
  method: string
  /** As in the document: `/api/v1/devices/{id}`. */
  template: string
  /** Scheme → the roles that the call takes. Empty: it is public. */
  security: Record<string, string[]>[]
  parameters: { name: string; in: string; required?: boolean; schema?: Schema }[]
  content: Record<string, { schema: Schema }>
}

interface Schema {
  $ref?: string
  type?: string | string[]
  enum?: unknown[]
  const?: unknown
  default?: unknown
  example?: unknown
  anyOf?: Schema[]
  oneOf?: Schema[]
  allOf?: Schema[]
  properties?: Record<string, Schema>
  required?: string[]
  items?: Schema
  minItems?: number
  minimum?: number
  format?: string
}

/** Ids and words to call with, by the name of a parameter or property (`productId`), or by the kind in a path (`/devices`). */
export type Ids = Record<string, string>

let schemas: Record<string, Schema> = {}

/** An operation as the document has it. */
interface Described {
  security?: Operation['security']
  parameters?: Operation['parameters']
  requestBody?: { content?: Operation['content'] }
}

export async function readOperations(): Promise<Operation[]> {
  const { body } = await caller(undefined)('GET', '/openapi.json')
  schemas = body.components?.schemas ?? {}
  return Object.entries(body.paths as Record<string, Record<string, Described>>).flatMap(([template, item]) =>
    Object.entries(item).map(([method, operation]) => ({
      method: method.toUpperCase(),
      template,
      security: operation.security ?? [],
      parameters: operation.parameters ?? [],
      content: operation.requestBody?.content ?? {},
    })),
  )
}

/** The kind of thing that a parameter of a path names: that of the segment before it. */
const kindsOf = (template: string) =>
  [...template.matchAll(/\/([\w-]+)\/\{(\w+)\}/g)].map(([, kind, name]) => ({ kind: kind!, name: name! }))

/** Does the call name something that exists, by its path or by what it must be given? */
export const namesThings = ({ template, parameters, content }: Operation, ids: Ids): boolean =>
  kindsOf(template).length > 0 ||
  parameters.some(({ name, required }) => required && name in ids) ||
  Object.keys(propertiesOf(content['application/json']?.schema)).some((name) => name in ids)

const propertiesOf = (schema: Schema | undefined): Record<string, Schema> =>
  schema ? (resolve(schema).properties ?? {}) : {}

/** The call as a request: path, body and headers. What is not in `ids` is called `none`. */
export function toCall(operation: Operation, ids: Ids) {
  const { template, parameters, content } = operation
  let path = template
  for (const { kind, name } of kindsOf(template)) {
    path = path.replace(`{${name}}`, name === 'n' ? '1' : (ids[`/${kind}`] ?? 'none'))
  }
  const query = parameters
    .filter((parameter) => parameter.in === 'query' && (parameter.required || parameter.name in ids))
    .map(({ name, schema }) => [name, ids[name] ?? String(sample(schema ?? {}, ids))])
  if (query.length > 0) path += `?${new URLSearchParams(query)}`
  const json = content['application/json']
  const other = Object.keys(content).find((type) => type !== 'application/json')
  if (json) return { path, body: sample(json.schema, ids), headers: {} }
  if (!other) return { path, body: undefined, headers: {} }
  const text = other === 'text/csv' ? 'number\nmatrix\n' : 'firmware'
  return { path, body: text, headers: { 'content-type': other, 'content-length': String(text.length) } }
}

function resolve(schema: Schema): Schema {
  if (schema.$ref) return resolve(schemas[schema.$ref.split('/').at(-1)!]!)
  const [first] = schema.anyOf ?? schema.oneOf ?? schema.allOf ?? []
  return first ? resolve(first) : schema
}

/** The least that a schema takes: required properties, and those that name something in `ids`. */
function sample(given: Schema, ids: Ids, name = ''): unknown {
  const schema = resolve(given)
  if (name in ids) return ids[name]
  if (schema.const !== undefined) return schema.const
  if (schema.example !== undefined) return schema.example
  if (schema.enum) return schema.enum[0]
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type
  if (type === 'integer' || type === 'number') return schema.minimum ?? 1
  if (type === 'boolean') return false
  if (type === 'array') {
    return Array.from({ length: schema.minItems ?? 0 }, () => sample(schema.items ?? {}, ids))
  }
  if (type === 'object' || schema.properties) {
    const names = Object.keys(schema.properties ?? {}).filter(
      (key) => schema.required?.includes(key) || key in ids,
    )
    return Object.fromEntries(names.map((key) => [key, sample(schema.properties![key]!, ids, key)]))
  }
  return schema.format === 'date-time' ? '2099-01-01T00:00:00Z' : 'matrix'
}
