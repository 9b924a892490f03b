import { Hono } from 'hono'
import { AppError } from '../common/errors.ts'
import { errorFields, logError } from '../common/log.ts'
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

for (const path of OPEN) consoleRoutes.use(path, chooseTexts)
consoleRoutes.route('/', signInRoutes)

for (const path of PAGES) {
  consoleRoutes.use(path || '/', chooseTexts, requireSession)
  if (path) consoleRoutes.use(`${path}/*`, chooseTexts, requireSession)
}
for (const routes of pages) {
  routes.onError((error, c) => {
    if (error instanceof AppError && error.status === 404) return renderFault(c, 404)
    if (error instanceof AppError) throw error
    logError('console.failed', { path: c.req.path, ...errorFields(error) })
    return renderFault(c, 500)
  })
  consoleRoutes.route('/', routes)
}
