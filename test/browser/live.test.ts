import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually, type System, startSystem } from '../e2e/system.ts'
import { createTask, hasChromium, newPage, openBrowser, signIn } from './browser.ts'

describe.skipIf(!hasChromium())('pages that follow what happens', () => {
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

  it('live updates keep the page of the table and the focused control', async () => {
    const operator = await system.newTenant()
    const productId = await operator.product()
    const numbers = Array.from({ length: 60 }, (_, n) => `lamp-${String(n).padStart(2, '0')}`)
    for (const number of numbers)
      await operator.device(productId, number, { accessToken: `live-device-${number}` })
    const { id: packageId } = await operator.pkg(productId, 'v1.1.0', Buffer.from('firmware'))
    const { id } = await operator.task(packageId)
    const { page, faults } = await newPage(browser, system.url.origin)
    await signIn(page, operator.key)
    await page.goto(`/tasks/${id}`)
    await eventually(async () =>
      expect(await page.locator('[data-figure="counts.total"]').textContent()).toBe('60'),
    )
    await page.click('#devices >> text=Next page')
    await page.waitForSelector('#devices >> text=lamp-55')
    expect(await page.locator('#devices tbody tr').count()).toBe(10)
    await page.focus('input[aria-label="Choose lamp-57"]')
    const device = await system.connect('live-device-lamp-55')
    await device.listen()
    await device.notice(1)
    await device.progress(40)
    await page.waitForSelector('#devices tr:has-text("lamp-55"):has-text("Upgrading")')
    expect(await page.locator('#devices tbody tr').count()).toBe(10)
    const focused = () => page.evaluate('document.activeElement.getAttribute("aria-label")')
    expect(await focused()).toBe('Choose lamp-57')
    await page.click('#devices >> text=First page')
    await page.waitForSelector('#devices >> text=lamp-00')

    await page.click('#devices >> text=Next page')
    await page.waitForSelector('#devices >> text=lamp-55')
    await page.click('.cards button:has-text("Upgrading")')
    await eventually(async () => expect(await page.locator('#devices tbody tr').count()).toBe(1))
    expect(await page.getAttribute('.cards button:has-text("Upgrading")', 'aria-pressed')).toBe('true')
    expect(await page.getAttribute('.cards button:has-text("All")', 'aria-pressed')).toBe('false')
    expect(faults).toEqual([])
  })

  it('a page whose key was revoked leads to the sign-in, and back', async () => {
    const operator = await system.newTenant()
    const made = await operator.post('/api/v1/keys', { name: 'short', role: 'operator' })
    const { page } = await newPage(browser, system.url.origin)
    await signIn(page, made.key)
    await page.goto('/?from=here')
    await operator.call('DELETE', `/api/v1/keys/${made.id}`)
    await page.waitForURL('**/sign-in?to=%2F%3Ffrom%3Dhere')
    await page.fill('input[name=key]', operator.key)
    await page.click('button[type=submit]')
    await page.waitForURL('**/?from=here')
  })

  it('a lost answer does not create a second task', async () => {
    const operator = await system.newTenant()
    const productId = await operator.product()
    await operator.device(productId, 'lamp-1')
    const { id: packageId } = await operator.pkg(productId, 'v1.1.0', Buffer.from('firmware'))
    const { page } = await newPage(browser, system.url.origin)
    await signIn(page, operator.key)
    await page.goto(`/packages/${packageId}`)
    await page.click('text=Add Upgrade Task')
    await page.route(
      '**/api/v1/tasks',
      async (route) => {
        await route.fetch()
        await route.abort()
      },
      { times: 1 },
    )
    await page.click('#new-task button[type=submit]')
    await page.click('#confirm button[value=yes]')
    await page.waitForSelector('#new-task >> text=No connection. Try again.')
    await createTask(page)
    expect((await operator.get('/api/v1/tasks')).items).toHaveLength(1)
  })

  it('the reason why a task waits is shown in Chinese', async () => {
    const operator = await system.newTenant()
    const productId = await operator.product()
    await operator.device(productId, 'lamp-1')
    const { id: packageId } = await operator.pkg(productId, 'v1.1.0', Buffer.from('firmware'))
    const { id } = await operator.task(packageId, { startAt: '2099-01-01T00:00:00Z' })
    const { page } = await newPage(browser, system.url.origin, { locale: 'zh-CN' })
    await signIn(page, operator.key)
    await page.goto(`/tasks/${id}`)
    await page.waitForSelector('#state >> text=任务将于')
    await page.waitForSelector('#state time[title="2099-01-01 00:00:00 UTC"]')
  })
})
