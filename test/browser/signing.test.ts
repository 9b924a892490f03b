import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually, type System, startSystem } from '../e2e/system.ts'
import { firmwareText } from '../firmware-text.ts'
import { newSigningKey, signText } from '../openssl.ts'
import { expectAccessible, hasChromium, newPage, openBrowser, signIn } from './browser.ts'

describe.skipIf(!hasChromium())('signed firmware in the console', () => {
  let system: System
  let browser: Browser
  beforeAll(async () => {
    system = await startSystem({ withBridge: false, withDownloads: false })
    browser = await openBrowser()
  })
  afterAll(async () => {
    await browser?.close()
    await system?.close()
  })

  it('an admin adds a key, requires signatures, uploads a signed package, and retires the key', async () => {
    const admin = await system.newTenant()
    const productId = await admin.product({ name: 'Street lamp' })
    const { page, faults } = await newPage(browser, system.url.origin)
    await signIn(page, admin.key)
    const confirm = async (text: string) => {
      await page.waitForSelector(`#confirm >> text=${text}`)
      await page.click('#confirm button[value=yes]')
    }
    const maker = newSigningKey()
    const file = Buffer.from('a signed file')

    await page.goto(`/products/${productId}`)
    await page.fill('[name=signingName]', 'lamp')
    await page.click('form:has([name=signingName]) button')
    await page.waitForSelector('dd:text-is("lamp")')
    await page.click('text=Add a signing key')
    await page.waitForSelector('text=This fixes the signing name: lamp')
    await page.fill('#new-signing-key [name=name]', 'release 2026')
    await page.fill('#new-signing-key [name=publicKey]', maker.publicKey)
    await page.click('#new-signing-key button[type=submit]')
    await page.waitForSelector(`td >> text="${maker.publicKey}"`)
    expect(await page.locator('[name=signingName]').count()).toBe(0)
    await page.click('text=Require signatures')
    await confirm('Tasks with an unsigned package send nothing more')
    await page.waitForSelector('text=go to no device')
    await expectAccessible(page, 'a product with a key')

    await page.goto('/firmware')
    await page.click('text=Add Upgrade Package')
    await page.fill('#new-package [name=name]', 'Lamp firmware')
    await page.fill('#new-package [name=version]', 'v2')
    await page.setInputFiles('#new-package input[type=file]', {
      name: 'lamp.bin',
      mimeType: 'application/octet-stream',
      buffer: file,
    })
    await page.selectOption('#new-package [name=keyId]', { label: 'Street lamp: release 2026' })
    await page.fill('#new-package [name=securityCounter]', '3')
    const sign = (version: string) => signText(maker.pem, firmwareText({ version, file, counter: 3 }))
    // A wrong signature first: the package exists by then, and the next try goes on with it.
    await page.fill('#new-package [name=signature]', sign('v1'))
    await page.click('#new-package button[type=submit]')
    const fault = page.locator('#new-package [data-fault]')
    await eventually(async () => expect(await fault.textContent()).toContain('does not fit it'))
    await page.fill('#new-package [name=signature]', sign('v2'))
    await page.click('#new-package button[type=submit]')
    await page.waitForURL('**/packages/pkg_*')
    await page.waitForSelector('h1 >> text=Ready')
    await page.waitForSelector('dd:has-text("by release 2026"):has-text("verified")')
    await expectAccessible(page, 'a signed package')
    const signed = page.url()

    await page.goto(`/products/${productId}`)
    await page.click('button:text-is("Retire")')
    await confirm('Retire release 2026 for good?')
    await page.waitForSelector('td >> text=Retired')
    await page.goto(signed)
    await page.waitForSelector('dd:has-text("by release 2026") >> text=Retired')
    expect(faults.filter((text) => !text.includes('422'))).toEqual([])
  })

  it('an operator sees the keys and no button for them', async () => {
    const admin = await system.newTenant()
    const productId = await admin.product()
    const { publicKey } = newSigningKey()
    await admin.post(`/api/v1/products/${productId}/signing-keys`, { name: 'release', publicKey })
    const { key } = await admin.post('/api/v1/keys', { name: 'op', role: 'operator' })
    const { page } = await newPage(browser, system.url.origin, { locale: 'zh-CN', width: 390 })
    await signIn(page, key)
    await page.goto(`/products/${productId}`)
    await page.waitForSelector(`td >> text="${publicKey}"`)
    await page.waitForSelector('h2 >> text=固件签名')
    expect(await page.locator('[data-api*=signing-keys], [data-body*=requireSignature]').count()).toBe(0)
    await expectAccessible(page, 'the keys as an operator sees them')
    expect(await page.evaluate('document.documentElement.scrollWidth > innerWidth')).toBe(false)
  })
})
