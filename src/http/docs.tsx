import type { FC } from 'hono/jsx'
import { createRouter } from './openapi.ts'

/** The parts of the generated document that the page reads. */
export interface ApiDocument {
  info: { title: string; version: string; description?: string }
  paths?: Record<string, object> | undefined
  components?: { schemas?: Record<string, unknown> }
}

interface Operation {
  tags?: string[]
  description?: string
  security?: Record<string, string[]>[]
  parameters?: { in: string; name: string; required?: boolean; schema?: unknown; description?: string }[]
  requestBody?: { content?: Record<string, { schema?: unknown }> }
  responses?: Record<string, { description?: string; content?: Record<string, { schema?: unknown }> }>
}

const METHODS = ['get', 'post', 'put', 'patch', 'delete'] as const

const STYLE = `
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color-scheme: light dark }
  summary { cursor: pointer; padding: .3rem 0 } pre, code { font: 13px/1.4 ui-monospace, monospace }
  pre { overflow: auto; padding: .6rem; background: color-mix(in srgb, currentColor 7%, transparent) }
  details { border-bottom: 1px solid color-mix(in srgb, currentColor 15%, transparent) } b { display: inline-block; width: 4rem }
`

/** It changes with a new release only. */
const CACHED = { 'cache-control': 'public, max-age=300' }

/**
 * `/openapi.json`, the document that is generated from the routes, and `/docs`, the same as a page without scripts or
 * anything from elsewhere. Both are public, and take long to make: each isolate makes them once.
 */
export function docsRoutes(documentOf: () => ApiDocument) {
  let json: string | undefined
  let page: string | undefined
  return createRouter()
    .get('/openapi.json', (c) => {
      json ??= JSON.stringify(documentOf())
      return c.body(json, 200, { ...CACHED, 'content-type': 'application/json' })
    })
    .get('/docs', (c) => {
      page ??= String(<Docs document={documentOf()} />)
      return c.html(page, 200, {
        ...CACHED,
        'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'",
      })
    })
}

const Docs: FC<{ document: ApiDocument }> = ({ document }) => (
  <html lang="en">
    <head>
      <meta charset="utf-8" />
      <meta name="viewport" content="width=device-width" />
      <title>{document.info.title}</title>
      <style>{STYLE}</style>
    </head>
    <body>
      <h1>{document.info.title}</h1>
      <p>{document.info.description}</p>
      <p>
        The same as a document: <a href="/openapi.json">openapi.json</a>
      </p>
      {[...groupByTag(document)].map(([tag, calls]) => (
        <section>
          <h2>{tag}</h2>
          {calls.map((call) => (
            <Call {...call} />
          ))}
        </section>
      ))}
      <h2>Shapes</h2>
      {Object.entries(document.components?.schemas ?? {}).map(([name, schema]) => (
        <details id={name}>
          <summary>{name}</summary>
          <Schema of={schema} />
        </details>
      ))}
    </body>
  </html>
)

interface CallProps {
  method: string
  path: string
  operation: Operation
}

const Call: FC<CallProps> = ({ method, path, operation }) => (
  <details>
    <summary>
      <b>{method.toUpperCase()}</b> <code>{path}</code>
    </summary>
    {operation.description && <p>{operation.description}</p>}
    {operation.security && (
      <p>
        Takes:{' '}
        {operation.security
          .flatMap(Object.entries)
          .map(([scheme, roles]) => [scheme, ...roles].join(' '))
          .join(', ')}
      </p>
    )}
    {operation.parameters && (
      <ul>
        {operation.parameters.map(({ name, required, schema, description }) => (
          <li>
            <code>{name}</code>
            {required ? '' : ' (optional)'}: <code>{JSON.stringify(schema)}</code> {description}
          </li>
        ))}
      </ul>
    )}
    <Content label="Body" content={operation.requestBody?.content} />
    {Object.entries(operation.responses ?? {}).map(([status, response]) => (
      <Content label={`${status} ${response.description ?? ''}`} content={response.content} />
    ))}
  </details>
)

const Content: FC<{ label: string; content: Record<string, { schema?: unknown }> | undefined }> = ({
  label,
  content,
}) => {
  const types = Object.entries(content ?? {})
  if (types.length === 0) return label === 'Body' ? null : <p>{label}</p>
  return (
    <>
      {types.map(([type, { schema }]) => (
        <>
          <p>
            {label} (<code>{type}</code>)
          </p>
          <Schema of={schema} />
        </>
      ))}
    </>
  )
}

const Schema: FC<{ of: unknown }> = ({ of }) => <pre>{JSON.stringify(of, null, 2)}</pre>

function groupByTag(document: ApiDocument): Map<string, CallProps[]> {
  const calls = Object.entries(document.paths ?? {}).flatMap(([path, item]) =>
    METHODS.flatMap((method) => {
      const operation = (item as Partial<Record<(typeof METHODS)[number], Operation>>)[method]
      return operation ? [{ method, path, operation }] : []
    }),
  )
  return Map.groupBy(calls, ({ operation }) => operation.tags?.[0] ?? 'other')
}
