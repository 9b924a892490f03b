import fc from 'fast-check'
import type { Operation, Schema } from './document.ts'
import { FILE, type Fixture } from './fixture.ts'

/** A request as it goes out: what is in the path and the query is not encoded yet. */
export interface Sketch {
  path: Record<string, string>
  /** A name may come twice. */
  query: [name: string, value: string][]
  headers: Record<string, string>
  /** Text and bytes go as they are, anything else as JSON; undefined: no body. */
  body: unknown
}

const MAX_TEXT = 80
const MAX_ITEMS = 3
const MAX_OPTIONAL = 2
const JSON_TYPE = 'application/json'
const OCTETS = 'application/octet-stream'

/** Requests to the operation that are valid by its description, for the first page, mostly about what the fixture has. */
export function validRequest(operation: Operation, fixture: Fixture): fc.Arbitrary<Sketch> {
  const texts = (place: string) => {
    const parameters = operation.parameters.filter((one) => one.in === place && one.name !== 'cursor')
    const named = parameters.map((one) => ({ ...one, name: nameOf(operation.path, one.name) }))
    const properties = Object.fromEntries(named.map(({ name, schema }) => [name, schema]))
    const required = named.filter((one) => one.required).map(({ name }) => name)
    return objectsOf({ properties, required }, fixture).map((values) =>
      Object.entries(values).map(([name, value]): [string, string] => [
        name.split('.').at(-1)!,
        String(value),
      ]),
    )
  }
  return fc
    .record({
      path: texts('path'),
      query: texts('query'),
      headers: texts('header'),
      body: bodyOf(operation, fixture),
    })
    .map(({ path, query, headers, body: { type, body } }) => ({
      path: Object.fromEntries(path),
      query,
      headers: { ...Object.fromEntries(headers), ...(type !== undefined && { 'content-type': type }) },
      body,
    }))
}

/** `{id}` means another thing after each collection. */
function nameOf(path: string, name: string): string {
  if (name !== 'id') return name
  return path.includes('{uploadId}') ? 'uploads.id' : `${path.split('/')[3]}.id`
}

function bodyOf({ path, bodies, isBodyRequired }: Operation, fixture: Fixture) {
  const each = bodies.map(([type, schema]) =>
    (type === JSON_TYPE
      ? valuesOf(schema, '', fixture).map((body) => Object.assign(body as object, fixture.fields[path]))
      : type === OCTETS
        ? fc.oneof(
            fc.constant(new TextEncoder().encode(FILE)),
            fc.uint8Array({ minLength: 1, maxLength: 64 }),
          )
        : fc.constantFrom('number,name\nn1,one\n', '{"number":"n1"}\n', 'number;tags\nx;a|b')
    ).map((body: unknown) => ({ type, body })),
  )
  const none = fc.constant({ type: undefined, body: undefined })
  return fc.oneof(...each, ...(each.length === 0 || !isBodyRequired ? [none] : []))
}

/** Values that are valid by the schema. `name` is the field's, by which the fixture knows what it may name. */
export function valuesOf(schema: Schema, name: string, fixture: Fixture): fc.Arbitrary<unknown> {
  if (schema.enum) return fc.constantFrom(...schema.enum)
  if ('const' in schema) return fc.constant(schema.const)
  if (schema.anyOf) return fc.oneof(...schema.anyOf.map((part: Schema) => valuesOf(part, name, fixture)))
  if (Array.isArray(schema.type)) {
    return fc.oneof(...schema.type.map((type: string) => valuesOf({ ...schema, type }, name, fixture)))
  }
  switch (schema.type) {
    case 'null':
      return fc.constant(null)
    case 'boolean':
      return fc.boolean()
    case 'integer':
    case 'number':
      return numbersOf(schema)
    case 'string':
      return textsOf(schema, name, fixture)
    case 'array':
      return fc.array(valuesOf(schema.items ?? {}, name, fixture), {
        minLength: schema.minItems ?? 0,
        maxLength: Math.min(schema.maxItems ?? MAX_ITEMS, Math.max(MAX_ITEMS, schema.minItems ?? 0)),
      })
    case 'object':
      return objectsOf(schema, fixture)
    default:
      return fc.jsonValue({ maxDepth: 3 })
  }
}

function numbersOf({ type, minimum, exclusiveMinimum, maximum }: Schema): fc.Arbitrary<number> {
  const min = Math.max(
    minimum ?? -1e9,
    exclusiveMinimum === undefined ? -1e9 : Math.floor(exclusiveMinimum) + 1,
  )
  const max = Math.max(min, maximum ?? 1e9)
  return type === 'integer'
    ? fc.integer({ min, max })
    : fc.oneof(fc.integer({ min, max }), fc.double({ min, max, noNaN: true }))
}

function textsOf(schema: Schema, name: string, fixture: Fixture): fc.Arbitrary<string> {
  const known = fixture.values[name]
  const any = anyText(schema)
  return known
    ? fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...known) }, { weight: 1, arbitrary: any })
    : any
}

function anyText({ format, pattern, minLength = 0, maxLength = MAX_TEXT }: Schema): fc.Arbitrary<string> {
  if (format === 'date-time') {
    const [min, max] = [new Date('2020-01-01T00:00:00Z'), new Date('2099-01-01T00:00:00Z')]
    return fc.date({ min, max, noInvalidDate: true }).map((date) => date.toISOString())
  }
  if (format === 'uri') return fc.webUrl({ validSchemes: ['https'] })
  if (pattern) {
    const fits = (text: string) => text.length >= minLength && text.length <= maxLength
    return fc.stringMatching(new RegExp(pattern), { size: 'small' }).filter(fits)
  }
  return fc.string({
    minLength,
    maxLength: Math.min(maxLength, Math.max(MAX_TEXT, minLength)),
    unit: 'grapheme',
  })
}

/** With few of the fields that may be absent: each has rules of its own beside the schema's. */
function objectsOf({ properties = {}, required = [], additionalProperties }: Schema, fixture: Fixture) {
  const optional = Object.keys(properties).filter((key) => !required.includes(key))
  const own = fc.subarray(optional, { maxLength: Math.min(optional.length, MAX_OPTIONAL) }).chain((some) => {
    const keys = Object.keys(properties).filter((key) => required.includes(key) || some.includes(key))
    const fields = keys.map((key) => [key, valuesOf(properties[key], key, fixture)])
    const model = Object.fromEntries(fields) as Record<string, fc.Arbitrary<unknown>>
    return fc.record(model, { noNullPrototype: true })
  })
  if (typeof additionalProperties !== 'object') return own
  const keys = fc.string({ maxLength: 20 })
  const more = fc.dictionary(keys, valuesOf(additionalProperties, '', fixture), { maxKeys: 3 })
  return fc.tuple(more, own).map(([others, known]) => ({ ...others, ...known }))
}
