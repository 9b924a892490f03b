import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually, type System, startSystem } from '../e2e/system.ts'
import { expectAccessible, hasChromium, newPage, openBrowser, picture, settled, signIn } from './browser.ts'

const NASTY = '<img src=x onerror="alert(1)"> “quoted” \u202eمرحبا\u202c 😀'

describe.skipIf(!hasChromium())('every page', () => {
  let system: System
  let browser: Browser
  let key: string
  let pages: [name: string, path: string][]
  beforeAll(async () => {
    system = await startSystem()
    browser = await openBrowser()
    const operator = await system.newTenant()
    key = operator.key
    const productId = await operator.product({
      name: 'Street lamp',
      description: `say "hello" ${'long '.repeat(190)}`,
    })
    const devices = []
    for (const n of [1, 2, 3])
      devices.push(await operator.device(productId, `lamp-${n}`, { accessToken: `pages-${n}`, name: NASTY }))
    const device = await system.connect('pages-1')
    await device.listen()
    await device.inform('v1.0.0')
    await device.say('ota/device/progress', 'nonsense')
    const pkg = await operator.pkg(productId, 'v1.1.0', Buffer.from('firmware'), {
      extData: { key1: 'value1' },
    })
    const { id } = await operator.task(pkg.id, { policy: { waves: [{ percent: 50 }, { percent: 100 }] } })
    await eventually(async () => expect((await operator.get(`/api/v1/tasks/${id}`)).counts.total).toBe(3))
    await operator.post('/api/v1/webhooks', { url: 'https://example.com/hook', events: ['task.finished'] })
    pages = [
      ['overview', '/'],
      ['products', '/products'],
      ['product', `/products/${productId}`],
      ['devices', '/devices'],
      ['device', `/devices/${devices[0]!.id}`],
      ['firmware', '/firmware'],
      ['package', `/packages/${pkg.id}`],
      ['rollout', `/tasks/${id}`],
      ['history', `/tasks/${id}/devices/${devices[0]!.id}`],
      ['settings', '/settings'],
    ]
  })
  afterAll(async () => {
    await browser?.close()
    await system?.close()
  })

  it.each([
    ['en-GB', 'light'],
    ['en-GB', 'dark'],
    ['zh-CN', 'light'],
    ['zh-CN', 'dark'],
  ] as const)('is accessible, in %s and %s, and shows names as text', async (locale, colorScheme) => {
    const { page, faults } = await newPage(browser, system.url.origin, { locale, colorScheme })
    await page.goto('/sign-in')
    await expectAccessible(page, 'sign-in')
    if (locale === 'en-GB' && colorScheme === 'light') await picture(page, 'sign-in')
    await signIn(page, key)
    for (const [name, path] of pages) {
      await page.goto(path)
      await page.waitForLoadState('load')
      await eventually(async () => expect(await page.locator('main :text-is("…")').count()).toBe(0))
      await expectAccessible(page, `${name} ${locale} ${colorScheme}`)
      if (locale === 'en-GB' && colorScheme === 'light') await picture(page, name)
    }
    expect(faults).toEqual([])
  })

  it('opens its dialogs, which are accessible too', async () => {
    const { page, faults } = await newPage(browser, system.url.origin)
    await signIn(page, key)
    for (const [name, path] of pages) {
      await page.goto(path)
      for (const button of await page.locator('button[data-opens]').all()) {
        await button.click()
        await expectAccessible(page, `${name}: ${await button.textContent()}`)
        await page.keyboard.press('Escape')
      }
    }
    expect(faults).toEqual([])
  })

  it('fits on a phone', async () => {
    const { page } = await newPage(browser, system.url.origin, { width: 380 })
    await signIn(page, key)
    for (const [name, path] of pages) {
      await page.goto(path)
      const width = await page.evaluate(
        () =>
          (globalThis as unknown as { document: { documentElement: { scrollWidth: number } } }).document
            .documentElement.scrollWidth,
      )
      expect(width, name).toBeLessThanOrEqual(380)
    }
    await settled(page).catch(() => {})
  })
})
