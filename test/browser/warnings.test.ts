import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type System, startSystem } from '../e2e/system.ts'
import { expectAccessible, hasChromium, newPage, openBrowser, signIn } from './browser.ts'

const IN_A_WEEK_MS = 7 * 86_400_000

describe.skipIf(!hasChromium())('warnings before a task is created', () => {
  let system: System
  let browser: Browser
  beforeAll(async () => {
    system = await startSystem({ withBridge: true, withDownloads: false })
    browser = await openBrowser()
  })
  afterAll(async () => {
    await browser?.close()
    await system?.close()
  })

  it.each([
    ['en-GB', 'light', /⚠ task "Sunday" \(tsk_\w+\), scheduled for .*\d{4}.*, will not reach the devices/],
    ['zh-CN', 'dark', /⚠ 任务“Sunday”（tsk_\w+），计划于 \d{4}年.* 开始，不会再送达/],
  ] as const)('the preview says in %s that an older task is cut short', async (locale, colorScheme, text) => {
    const operator = await system.newTenant()
    const productId = await operator.product()
    await operator.device(productId, 'lamp-1')
    const older = await operator.pkg(productId, 'v1.1.0', Buffer.from('firmware'))
    const startAt = new Date(Date.now() + IN_A_WEEK_MS).toISOString()
    await operator.task(older.id, { name: 'Sunday', startAt })
    const pkg = await operator.pkg(productId, 'v1.2.0', Buffer.from('newer firmware'))
    const { page, faults } = await newPage(browser, system.url.origin, { locale, colorScheme })
    await signIn(page, operator.key)
    await page.goto(`/packages/${pkg.id}`)
    await page.click('[data-opens="#new-task"]')
    await page.click('[data-previews]')
    const preview = page.locator('output[data-preview]')
    await preview.waitFor({ state: 'visible' })
    expect(await preview.textContent()).toMatch(text)
    await expectAccessible(page, 'a preview with a warning')
    if (process.env.LOOK) {
      await preview.scrollIntoViewIfNeeded()
      await page.setViewportSize({ width: 390, height: 800 })
      await page.screenshot({ path: `${process.env.LOOK}/warning-${locale}.png` })
    }
    expect(faults).toEqual([])
  })
})
