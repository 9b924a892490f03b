import { Hono } from 'hono'
import { toAppError } from '../http/problem.ts'
import { devicePages } from './devices/routes.tsx'
import { firmwarePages } from './firmware/routes.tsx'
import { assetRoutes } from './layout/assets.ts'
import { type ConsoleEnv, renderFault } from './layout/page.tsx'
import { overviewPages } from './overview/routes.tsx'
import { productPages } from './products/routes.tsx'
import { settingsPages } from './settings/routes.tsx'
import { chooseTexts, requireSession } from './sign-in/guard.ts'
import { signInRoutes } from './sign-in/routes.tsx'
import { taskPages } from './tasks/routes.tsx'

// The console: the pages for operators. Pages only read; changes go through the API (src/console/README.md#changes).

const OPEN = ['/sign-in', '/sign-out', '/language']
const PAGES = ['', '/parts', '/products', '/devices', '/firmware', '/packages', '/tasks', '/settings']

const pages = [overviewPages, productPages, devicePages, firmwarePages, taskPages, settingsPages]

export const consoleRoutes = new Hono<ConsoleEnv>().route('/', assetRoutes)

/** A fault of ours, and an address without content, are pages too, for the guard and the sign-in as well. */
consoleRoutes.onError((error, c) => {
  const { status, retryAfterSeconds } = toAppError(error, 'console.failed', { path: c.req.path })
  if (status !== 404 && status !== 500 && status !== 503) throw error
  if (retryAfterSeconds !== undefined) c.header('retry-after', String(retryAfterSeconds))
  return renderFault(c, status)
})

for (const path of OPEN) consoleRoutes.use(path, chooseTexts)
consoleRoutes.route('/', signInRoutes)

for (const path of PAGES) {
  consoleRoutes.use(path || '/', chooseTexts, requireSession)
  if (path) consoleRoutes.use(`${path}/*`, chooseTexts, requireSession)
}
for (const routes of pages) {
  consoleRoutes.route('/', routes)
}
