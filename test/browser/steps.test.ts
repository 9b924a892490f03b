import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually, type System, startSystem } from '../e2e/system.ts'
import { createTask, hasChromium, newPage, openBrowser, picture, settled, signIn } from './browser.ts'

describe.skipIf(!hasChromium())('the steps of an upgrade, by clicking', () => {
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

  it('an operator makes a product and a device, uploads a package, creates a task and watches it', async () => {
    const { key } = await system.newTenant()
    const { page, faults } = await newPage(browser, system.url.origin)
    await signIn(page, key)

    await page.click('nav >> text=Products')
    await page.click('text=Add product')
    await page.fill('#new-product input[name=name]', 'Street lamp')
    await page.click('#new-product button[type=submit]')
    await page.waitForURL('**/products/prd_*')
    const productId = page.url().split('/').at(-1)!

    await page.click('nav >> text=Devices')
    await page.click('text=Add device')
    await page.fill('#new-device input[name=number]', 'lamp-1')
    await page.fill('#new-device input[name=accessToken]', 'browser-lamp-token-1')
    await page.click('#new-device button[type=submit]')
    await page.waitForURL('**/devices/dev_*')
    const device = await system.connect('browser-lamp-token-1')
    await device.listen()
    await device.inform('v1.0.0')

    await page.click('nav >> text=Firmware Upgrade')
    await page.click('text=Add Upgrade Package')
    const file = join(system.directory, 'lamp.bin')
    writeFileSync(file, 'firmware of the lamp')
    await page.fill('#new-package input[name=name]', 'Lamp firmware')
    await page.selectOption('#new-package select[name=productId]', productId)
    await page.fill('#new-package input[name=version]', 'v1.1.0')
    await page.setInputFiles('#new-package input[type=file]', file)
    await page.click('text=Add a row')
    const [name, value] = await page.locator('#new-package [data-pair] input').all()
    await name!.fill('key1')
    await value!.fill('value1')
    await page.click('#new-package button[type=submit]')
    await page.waitForURL('**/packages/pkg_*')
    await page.waitForSelector('text=Ready')

    await page.click('text=Add Upgrade Task')
    await page.click('text=Preview')
    await page.waitForSelector('text=1 devices, 1 of them get a notice.')
    await createTask(page)
    const figure = (state: string) => page.locator(`[data-figure="counts.${state}"]`).textContent()
    await device.notice(1)
    await eventually(async () => expect(await figure('pushed')).toBe('1'))
    await device.progress(50)
    await eventually(async () => expect(await figure('upgrading')).toBe('1'))
    await picture(page, 'task')
    await device.progress(100)
    await eventually(async () => expect(await figure('success')).toBe('1'))
    await eventually(async () => expect(await page.locator('#devices').textContent()).toContain('Success'))
    await page.click('#devices >> text=lamp-1')
    await page.waitForSelector('text=notice taken')
    await settled(page)
    expect(faults).toEqual([])
  })
})
