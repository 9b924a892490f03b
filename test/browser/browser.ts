import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import axe from 'axe-core'
import { type Browser, chromium, type Page } from 'playwright-core'
import { expect } from 'vitest'

// Debian's Chromium, driven by playwright-core over the DevTools protocol.

const EXECUTABLE = '/usr/bin/chromium'
const PICTURES = 'test/browser/pictures'

/** True if Chromium is installed. Without it, it warns and the tests are skipped; under CI it throws. */
export function hasChromium(): boolean {
  if (existsSync(EXECUTABLE)) return true
  const text = `No browser tests can be run here; missing: ${EXECUTABLE}`
  if (process.env.CI) throw new Error(text)
  console.warn(`${text}. SKIPPED.`)
  return false
}

export const openBrowser = (): Promise<Browser> =>
  chromium.launch({ executablePath: EXECUTABLE, args: ['--no-sandbox'] })

/** Opens a page. `faults` collects its errors and its requests to other hosts. */
export async function newPage(
  browser: Browser,
  url: string,
  options: { locale?: string; colorScheme?: 'light' | 'dark'; width?: number } = {},
): Promise<{ page: Page; faults: string[] }> {
  const { locale = 'en-GB', colorScheme = 'light', width = 1200 } = options
  const context = await browser.newContext({
    baseURL: url,
    locale,
    colorScheme,
    timezoneId: 'Europe/Berlin',
    viewport: { width, height: 800 },
  })
  // For what hangs: on a busy machine a page takes its time.
  context.setDefaultTimeout(120_000)
  const page = await context.newPage()
  const faults: string[] = []
  page.on('pageerror', (error) => faults.push(String(error)))
  page.on('console', (message) => {
    if (message.type() === 'error') faults.push(`${message.text()} ${message.location().url}`)
  })
  page.on('response', (response) => {
    if (response.status() >= 400) faults.push(`${response.status()} ${response.url()}`)
  })
  page.on('request', (request) => {
    if (new URL(request.url()).host !== new URL(url).host) faults.push(`asks ${request.url()}`)
  })
  return { page, faults }
}

export async function signIn(page: Page, key: string): Promise<void> {
  await page.goto('/sign-in')
  await page.fill('input[name=key]', key)
  await page.click('button[type=submit]')
  await page.waitForURL('/')
}

/** Submits the open form of a new task and confirms the preview. */
export async function createTask(page: Page): Promise<void> {
  await page.click('#new-task button[type=submit]')
  await page.waitForSelector('#confirm >> text=Create this task?')
  await page.click('#confirm button[value=yes]')
  await page.waitForURL('**/tasks/tsk_*')
}

/** Waits until the page fetches nothing more. */
export const settled = (page: Page) => page.waitForLoadState('networkidle')

/** Takes a picture for the README if `PICTURES=1` is set. */
export async function picture(page: Page, name: string): Promise<void> {
  if (!process.env.PICTURES) return
  mkdirSync(PICTURES, { recursive: true })
  await page.screenshot({ path: join(PICTURES, `${name}.png`) })
}

/** Expects no violation of the rules of axe-core. */
export async function expectAccessible(page: Page, what: string): Promise<void> {
  await page.evaluate(axe.source)
  const violations = await page.evaluate(async () => {
    const { violations } = await (globalThis as unknown as { axe: typeof axe }).axe.run()
    return violations.map(
      ({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 200)).join(' | ')}`,
    )
  })
  expect(violations, what).toEqual([])
}
