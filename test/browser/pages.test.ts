import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually, type System, startSystem } from '../e2e/system.ts'
import type { Operator } from '../e2e/system-operator.ts'
import { expectAccessible, hasChromium, newPage, openBrowser, picture, settled, signIn } from './browser.ts'

const NASTY = '<img src=x onerror="alert(1)"> “quoted” \u202eمرحبا\u202c 😀'

const widthOf = (page: Page): Promise<number> => page.evaluate('document.documentElement.scrollWidth')

/** The progress of each lamp after its notice. */
const STEPS = [[100], [30], [100], [60], [100], [-2], [100], [80], [10], [100], [100], [45]]

describe.skipIf(!hasChromium())('every page', () => {
  let system: System
  let browser: Browser
  let key: string
  let pages: [name: string, path: string][]
  const addLamp = async (operator: Operator, productId: string, n: number) => {
    const { id } = await operator.device(productId, `lamp-${String(n + 1).padStart(3, '0')}`, {
      accessToken: `pages-test-device-${n}`,
      name: `Mill Street ${n + 1}`,
      tags: ['north'],
    })
    const device = await system.connect(`pages-test-device-${n}`)
    await device.listen()
    await device.inform('v1.0.0')
    return { id, device }
  }
  beforeAll(async () => {
    system = await startSystem({ withBridge: true, withDownloads: false })
    browser = await openBrowser()
    const operator = await system.newTenant()
    key = operator.key
    const productId = await operator.product({
      name: 'Street lamp',
      description: 'Dims by itself, tells of failures.',
    })
    const lamps = await Promise.all(STEPS.map((_, n) => addLamp(operator, productId, n)))
    const [first] = lamps
    await first!.device.say('ota/device/progress', 'nonsense')
    const pkg = await operator.pkg(productId, 'v1.1.0', Buffer.from('firmware'), {
      extData: { key1: 'value1' },
    })
    const { id } = await operator.task(pkg.id, { policy: { waves: [{ percent: 50 }, { percent: 100 }] } })
    const rollout = () => operator.view(id)
    await eventually(async () => expect((await rollout()).counts.pushed).toBe(STEPS.length / 2))
    await Promise.all(
      lamps.map(({ device }, n) => (device.notices().length > 0 ? device.progress(...STEPS[n]!) : undefined)),
    )
    await eventually(async () => expect((await rollout()).counts.pushed).toBe(0))
    // Lists read the database, which lags behind the task.
    const listed = async () => (await operator.get('/api/v1/tasks')).items[0].counts
    await eventually(async () => expect((await listed()).success).toBeGreaterThan(0))
    const webhook = await operator.post('/api/v1/webhooks', {
      url: 'https://example.com/hook',
      events: ['task.finished'],
    })
    pages = [
      ['overview', '/'],
      ['products', '/products'],
      ['product', `/products/${productId}`],
      ['devices', '/devices'],
      ['device', `/devices/${first!.id}`],
      ['firmware', '/firmware'],
      ['package', `/packages/${pkg.id}`],
      ['rollout', `/tasks/${id}`],
      ['history', `/tasks/${id}/devices/${first!.id}`],
      ['settings', '/settings'],
      ['webhooks', '/settings/webhooks'],
      ['deliveries', `/settings/webhooks/${webhook.id}`],
      ['audit', '/settings/audit'],
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
  ] as const)('every page is accessible in %s and %s', async (locale, colorScheme) => {
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

  it('every page shows any text as plain text without breaking its layout', async () => {
    const operator = await system.newTenant()
    const text = (length: number) => NASTY.padEnd(length, 'x').slice(0, length)
    const productId = await operator.product({ name: text(128), description: text(1024) })
    const { id: deviceId } = await operator.device(productId, 'مرحبا-😀', {
      accessToken: 'pages-device-nasty',
      name: text(128),
      tags: ['<b>', 'שלום'],
    })
    const device = await system.connect('pages-device-nasty')
    await device.say('ota/device/progress', text(5000))
    await device.inform(text(64))
    const pkg = await operator.pkg(productId, '😀"<i>', Buffer.from('firmware'), {
      name: text(128),
      description: text(1024),
      extData: { '<k>': text(5000), مرحبا: '"' },
    })
    const { id } = await operator.task(pkg.id, { name: text(128), description: text(1024) })
    await eventually(async () => {
      expect((await operator.get(`/api/v1/tasks/${id}`)).counts.total).toBe(1)
      const { items } = await operator.get(`/api/v1/devices/${deviceId}/rejections`)
      expect(items).toHaveLength(1)
    })
    const { page, faults } = await newPage(browser, system.url.origin, { width: 380 })
    await signIn(page, operator.key)
    for (const [name, path] of [
      ['overview', '/'],
      ['products', '/products'],
      ['product', `/products/${productId}`],
      ['devices', '/devices'],
      ['device', `/devices/${deviceId}`],
      ['firmware', '/firmware'],
      ['package', `/packages/${pkg.id}`],
      ['task', `/tasks/${id}`],
      ['task device', `/tasks/${id}/devices/${deviceId}`],
      ['audit', '/settings/audit'],
    ] as [string, string][]) {
      await page.goto(path)
      for (const width of [380, 1280]) {
        await page.setViewportSize({ width, height: 800 })
        expect(await widthOf(page), `${name} at ${width}`).toBeLessThanOrEqual(width)
      }
      expect(await page.locator('main :is(img, i, b)').count(), name).toBe(0)
    }
    await page.goto(`/packages/${pkg.id}`)
    expect((await page.textContent('pre'))?.length).toBeGreaterThan(5000)
    expect(faults).toEqual([])
  })

  it('every dialog opens and is accessible', async () => {
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

  it('every page fits on a phone', async () => {
    const { page } = await newPage(browser, system.url.origin, { width: 380 })
    await signIn(page, key)
    for (const [name, path] of pages) {
      await page.goto(path)
      expect(await widthOf(page), name).toBeLessThanOrEqual(380)
    }
    await settled(page).catch(() => {})
  })
})
