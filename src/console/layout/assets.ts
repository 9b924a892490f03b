import { createHash } from 'node:crypto'
import { Hono } from 'hono'
import htmx from 'htmx.org/dist/htmx.min.js'
import api from '../client/api.client.js'
import script from '../client/console.client.js'
import dom from '../client/dom.client.js'
import form from '../client/form.client.js'
import icon from '../client/icon.svg'
import imports from '../client/import.client.js'
import live from '../client/live.client.js'
import pick from '../client/pick.client.js'
import rows from '../client/rows.client.js'
import select from '../client/select.client.js'
import style from '../client/style.css'
import upload from '../client/upload.client.js'

// The files that pages load: scripts, style sheet and icon. Their path contains one hash of all of them, so that a
// browser may keep them for good, and scripts that import each other are always of one version.

const TYPES = { js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml' }

const FILES = {
  'htmx.js': htmx,
  'style.css': style,
  'icon.svg': icon,
  'console.client.js': script,
  'api.client.js': api,
  'dom.client.js': dom,
  'form.client.js': form,
  'import.client.js': imports,
  'live.client.js': live,
  'select.client.js': select,
  'pick.client.js': pick,
  'rows.client.js': rows,
  'upload.client.js': upload,
}
type Name = keyof typeof FILES

const hash = createHash('sha256').update(Object.values(FILES).join('\0')).digest('hex').slice(0, 12)

export const assetPath = (name: Name) => `/assets/${hash}/${name}`

/** The scripts that `console.client.js` imports. Pages preload them, so that none waits for the one that imports it. */
export const SCRIPT_PARTS = Object.keys(FILES).filter(
  (name) => name.endsWith('.client.js') && name !== 'console.client.js',
) as Name[]

/** Browsers ask for this path by themselves. */
const ICON = '/favicon.ico'

export const assetRoutes = new Hono()
  .get(ICON, (c) => c.redirect(assetPath('icon.svg')))
  .get('/assets/:hash/:name', (c) => {
    const { name } = c.req.param()
    if (!Object.hasOwn(FILES, name)) return c.notFound()
    const type = TYPES[name.split('.').at(-1) as keyof typeof TYPES]
    return c.body(FILES[name as Name], 200, {
      'content-type': `${type}; charset=utf-8`,
      'cache-control': 'public, max-age=31536000, immutable',
      'x-content-type-options': 'nosniff',
    })
  })
