import { createHash } from 'node:crypto'
import { Hono } from 'hono'
import htmx from 'htmx.org/dist/htmx.min.js'
import script from './client/console.client.js'
import icon from './client/icon.svg'
import style from './client/style.css'

// What pages load besides themselves. Each name carries a hash of what is in it, so a browser asks once.

const TYPES = { js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml' }

const FILES = { 'htmx.js': htmx, 'console.js': script, 'style.css': style, 'icon.svg': icon }
type Name = keyof typeof FILES

const hashes = Object.fromEntries(
  Object.entries(FILES).map(([name, text]) => [
    name,
    createHash('sha256').update(text).digest('hex').slice(0, 12),
  ]),
) as Record<Name, string>

export const assetPath = (name: Name) => `/assets/${hashes[name]}/${name}`

/** Also where browsers look for it by themselves. */
const ICON = '/favicon.ico'

export const assetRoutes = new Hono()
  .get(ICON, (c) => c.redirect(assetPath('icon.svg')))
  .get('/assets/:hash/:name', (c) => {
    const { name } = c.req.param()
    if (!(name in FILES)) return c.notFound()
    const type = TYPES[name.split('.').at(-1) as keyof typeof TYPES]
    return c.body(FILES[name as Name], 200, {
      'content-type': `${type}; charset=utf-8`,
      'cache-control': 'public, max-age=31536000, immutable',
      'x-content-type-options': 'nosniff',
    })
  })
