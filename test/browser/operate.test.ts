import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { eventually, type System, startSystem } from '../e2e/system.ts'
import {
  createTask,
  expectAccessible,
  hasChromium,
  newPage,
  openBrowser,
  picture,
  signIn,
} from './browser.ts'

describe.skipIf(!hasChromium())('what an operator does, by clicking', () => {
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

  const open = async (key: string) => {
    const { page, faults } = await newPage(browser, system.url.origin)
    await signIn(page, key)
    return { page, faults }
  }
  const figure = (page: Page, state: string) => page.locator(`[data-figure="counts.${state}"]`).textContent()

  /** Makes a package and devices of these numbers; no test plays the devices. */
  async function makeFleet(numbers: string[]) {
    const operator = await system.newTenant()
    const productId = await operator.product()
    for (const number of numbers) await operator.device(productId, number)
    const pkg = await operator.pkg(productId, 'v1.1.0', Buffer.from('firmware'))
    return { operator, productId, pkg }
  }

  it('an operator cancels and retries several chosen devices, and then one', async () => {
    const { operator, pkg } = await makeFleet(['lamp-1', 'lamp-2', 'lamp-3', 'lamp-4'])
    const { id } = await operator.task(pkg.id)
    const { page, faults } = await open(operator.key)
    await page.goto(`/tasks/${id}`)
    await eventually(async () => expect(await figure(page, 'total')).toBe('4'))
    expect(await page.isVisible('[data-chosen]')).toBe(false)
    await page.check('input[aria-label="Choose lamp-1"]')
    await page.check('input[aria-label="Choose lamp-3"]')
    await page.waitForSelector('text=2 chosen')
    await page.click('[data-chosen] >> text=Cancel')
    await page.waitForSelector('text=Cancel the upgrade of 2 of the chosen devices?')
    await page.click('#confirm button[value=yes]')
    await page.waitForSelector('text=2 of 2 are cancelled.')
    await eventually(async () => expect(await figure(page, 'cancelled')).toBe('2'))

    await page.check('input[data-all-devices]')
    await page.waitForSelector('text=4 chosen')
    await expectAccessible(page, 'chosen devices')
    await page.click('[data-chosen] >> text=Retry')
    await page.waitForSelector('text=Try 2 of the chosen devices again?')
    await page.click('#confirm button[value=yes]')
    await page.waitForSelector('text=2 of 2 are tried again.')
    await eventually(async () => expect(await figure(page, 'cancelled')).toBe('0'))

    await page.click('tr:has-text("lamp-2") >> text=Cancel')
    await page.waitForSelector('text=Cancel the upgrade of lamp-2?')
    await page.click('#confirm button[value=yes]')
    await eventually(async () => expect(await figure(page, 'cancelled')).toBe('1'))

    await page.click('#state [data-confirm*="3 devices that have not ended turn Cancelled"]')
    await page.waitForSelector('#confirm >> text=3 devices that have not ended')
    await page.click('#confirm button[value=yes]')
    await eventually(async () => expect(await figure(page, 'cancelled')).toBe('4'))
    expect((await operator.view(id)).status).toBe('cancelled')
    expect(faults).toEqual([])
  })

  it('answering a question with no changes nothing', async () => {
    const { operator, pkg } = await makeFleet(['lamp-1'])
    const { id } = await operator.task(pkg.id)
    const { page } = await open(operator.key)
    await page.goto(`/tasks/${id}`)
    await page.click('#state >> text=Cancel')
    await page.click('#confirm button[value=no]')
    await page.click('#state >> text=Pause')
    await page.click('#confirm button[value=yes]')
    await eventually(async () => expect((await operator.view(id)).status).toBe('paused'))
    await page.waitForSelector('#state >> text=Resume')
  })

  it('a task can be scheduled for a date and time in the zone of the browser', async () => {
    const { operator, pkg } = await makeFleet(['lamp-1'])
    const { page, faults } = await open(operator.key)
    await page.goto(`/packages/${pkg.id}`)
    await page.click('text=Add Upgrade Task')
    await page.selectOption('#new-task [data-switches=start]', 'later')
    await page.waitForSelector('#new-task >> text=Europe/Berlin')
    await page.fill('#new-task input[name=startAt]', '2099-07-01T12:00')
    await createTask(page)
    await page.waitForSelector('h1 >> text=Scheduled')
    const task = await operator.view(page.url().split('/').at(-1)!)
    expect([task.status, task.startAt]).toEqual(['scheduled', '2099-07-01T10:00:00.000Z'])
    expect(faults).toEqual([])
  })

  /** Creates the task of the open form and returns the body of its request. */
  async function confirmTask(page: Page) {
    const [request] = await Promise.all([
      page.waitForRequest((each) => each.method() === 'POST' && each.url().endsWith('/api/v1/tasks')),
      createTask(page),
    ])
    return request.postDataJSON()
  }

  it('devices chosen from a list for a task stay chosen during further searches', async () => {
    const numbers = Array.from({ length: 25 }, (_, n) => `lamp-${String(n).padStart(2, '0')}`)
    const { operator, pkg } = await makeFleet(numbers)
    const { page, faults } = await open(operator.key)
    await page.goto(`/packages/${pkg.id}`)
    await page.click('text=Add Upgrade Task')
    await page.selectOption('#new-task [name=devices]', 'list')
    await page.waitForSelector('text=These are the first 20; search for the others.')
    await page.check('#choice input[aria-label="Choose lamp-03"]')
    await page.check('#choice input[aria-label="Choose lamp-04"]')
    await page.fill('#new-task input[type=search]', 'lamp-24')
    await page.waitForSelector('#choice >> text=lamp-24')
    await eventually(async () => expect(await page.locator('#choice input').count()).toBe(1))
    await page.check('#choice input[aria-label="Choose lamp-24"]')
    await page.waitForSelector('#picked >> text=3 chosen')
    await expectAccessible(page, 'devices to choose from')
    await page.click('#picked label:has-text("lamp-04") input')
    await page.fill('#new-task input[type=search]', '')
    await page.waitForSelector('#choice >> text=lamp-00')
    expect(await page.isChecked('#choice input[aria-label="Choose lamp-03"]')).toBe(true)
    expect(await page.isChecked('#choice input[aria-label="Choose lamp-04"]')).toBe(false)
    await page.click('#new-task [data-previews]')
    await page.waitForSelector('#new-task output >> text=2')
    const body = await confirmTask(page)
    expect([Object.keys(body.devices), body.search]).toEqual([['ids'], undefined])
    await page.waitForSelector('#devices >> text=lamp-24')
    expect(await page.locator('#devices tbody tr').count()).toBe(2)
    expect(faults).toEqual([])
  })

  it('presets turn on rules of a task, and every rule can still be changed', async () => {
    const { operator, productId, pkg } = await makeFleet(['lamp-1'])
    const diff = await operator.pkg(productId, 'v1.1.0', Buffer.from('difference'), {
      kind: 'diff',
      sourceVersion: 'v1.0.0',
      name: 'small step',
    })
    const { page, faults } = await open(operator.key)
    const begin = async () => {
      await page.goto(`/packages/${pkg.id}`)
      await page.click('text=Add Upgrade Task')
    }
    const wave = (percent: number, soakMinutes: number) => ({ percent, successPercent: 95, soakMinutes })
    const careful = [wave(1, 30), wave(20, 0), wave(100, 0)]
    const nightly = {
      days: ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'],
      from: '01:00',
      to: '05:00',
      timeZone: 'Europe/Berlin',
    }

    await begin()
    expect((await confirmTask(page)).policy).not.toHaveProperty('waves')
    await begin()
    await page.selectOption('#new-task [data-presets]', 'careful')
    const { policy } = await confirmTask(page)
    expect([policy.waves, policy.haltOn]).toEqual([careful, { failurePercent: 10, minFinished: 20 }])
    await begin()
    await page.selectOption('#new-task [data-presets]', 'night')
    const night = (await confirmTask(page)).policy
    expect([night.window, night.waves]).toEqual([nightly, undefined])

    await begin()
    await page.selectOption('#new-task [data-presets]', 'careful')
    await page.check('#new-task [data-rule=window]')
    expect(await page.inputValue('#new-task [data-presets]')).toBe('own')
    await page.uncheck('#new-task [data-rule=halt]')
    await page.uncheck('#new-task label.check:has-text("Sun") input')
    await page.click('#new-task [data-row] >> nth=0 >> text=Delete')
    await page.click('text=Add a wave')
    await page.fill('#new-task [data-row] >> nth=2 >> [data-field=percent]', '50')
    await page.click('text=More rules')
    await expectAccessible(page, 'all rules of a task')
    await page.check('#new-task label.check:has-text("download failed") input')
    await page.check('#new-task label.check:has-text("timeout") input')
    await page.fill('#new-task [name="policy.autoRetry.times"]', '2')
    await page.check('#new-task label.check:has-text("small step") input')
    await page.click('#new-task button[type=submit]')
    await page.waitForSelector('text=must be more than the wave before')
    await page.fill('#new-task [data-row] >> nth=1 >> [data-field=percent]', '40')
    await page.fill('#new-task [data-row] >> nth=2 >> [data-field=percent]', '100')
    await picture(page, 'new-task')
    const own = await confirmTask(page)
    expect([own.packageIds, own.policy.waves, own.policy.haltOn, own.policy.autoRetry]).toEqual([
      [pkg.id, diff.id],
      [wave(20, 0), wave(40, 0), wave(100, 0)],
      undefined,
      { times: 2, backoffMinutes: 10, on: ['timeout', -2] },
    ])
    expect(own.policy.window).toEqual({ ...nightly, days: nightly.days.slice(0, -1) })
    expect(faults.filter((fault) => !fault.includes('422'))).toEqual([])
  })

  it('the form of a package names the fault: version exists, digest differs, connection lost', async () => {
    const { operator, productId } = await makeFleet(['lamp-1'])
    const { page, faults } = await open(operator.key)
    await page.goto('/firmware')
    await page.click('text=Add Upgrade Package')
    await page.selectOption('#new-package [name=productId]', productId)
    await page.fill('#new-package [name=name]', 'Lamp firmware')
    await page.fill('#new-package [name=version]', 'v1.1.0')
    await page.setInputFiles('#new-package input[type=file]', {
      name: 'lamp.bin',
      mimeType: 'application/octet-stream',
      buffer: Buffer.from('lamp'),
    })
    const fault = page.locator('#new-package [data-fault]')
    const confirm = () => page.click('#new-package button[type=submit]')
    await confirm()
    await eventually(async () =>
      expect(await fault.textContent()).toContain('The product has a package of this module'),
    )
    await page.fill('#new-package [name=version]', 'v1.2.0')
    await page.fill('#new-package [data-digest]', 'ab'.repeat(32))
    await confirm()
    await eventually(async () => expect(await fault.textContent()).toContain("the file's SHA-256 is"))
    await page.fill('#new-package [data-digest]', '')
    await page.context().setOffline(true)
    await confirm()
    await eventually(async () => expect(await fault.textContent()).toBe('No connection. Try again.'))
    await page.context().setOffline(false)
    await confirm()
    await page.waitForURL('**/packages/pkg_*')
    await page.waitForSelector('h1 >> text=Ready')
    expect(faults.filter((text) => !/409|422|ERR_INTERNET_DISCONNECTED/.test(text))).toEqual([])
  })

  it('an import of devices first shows which lines would be rejected', async () => {
    const operator = await system.newTenant()
    await operator.product({ name: 'Street lamp' })
    const { page, faults } = await open(operator.key)
    await page.goto('/devices')
    await page.click('text=Import CSV')
    const csv = 'number,name\nlamp-1,One\n,nameless\nlamp-2,Two\nlamp-1,again\n'
    await page.setInputFiles('#import input[type=file]', {
      name: 'devices.csv',
      mimeType: 'text/csv',
      buffer: Buffer.from(csv),
    })
    expect(await page.isEnabled('#import button[value=import]')).toBe(false)
    await page.click('#import button[value=trial]')
    await page.waitForSelector('text=2 new, 0 known, 2 rejected')
    await page.waitForSelector('#import >> text=Line 3:')
    await page.waitForSelector('#import >> text=Line 5:')
    expect((await operator.get('/api/v1/devices')).items).toEqual([])
    const choose = (text: string) =>
      page.setInputFiles('#import input[type=file]', {
        name: 'devices.csv',
        mimeType: 'text/csv',
        buffer: Buffer.from(text),
      })
    await choose('number\nother-1\n')
    expect(await page.isEnabled('#import button[value=import]')).toBe(false)
    await choose(csv)
    await page.click('#import button[value=trial]')
    await page.waitForSelector('text=2 new, 0 known, 2 rejected')
    await page.click('#import button[value=import]')
    await page.waitForSelector('td >> text=lamp-2')
    expect((await operator.get('/api/v1/devices')).items).toHaveLength(2)
    expect(faults).toEqual([])
  })

  it('a viewer sees everything but no control that changes anything', async () => {
    const { operator, productId, pkg } = await makeFleet(['lamp-1'])
    const { id } = await operator.task(pkg.id)
    const { key } = await operator.post('/api/v1/keys', { name: 'eyes', role: 'viewer' })
    const { page, faults } = await open(key)
    const [device] = (await operator.get('/api/v1/devices')).items
    for (const path of [
      '/',
      '/products',
      `/products/${productId}`,
      '/devices',
      `/devices/${device.id}`,
      '/firmware',
      `/packages/${pkg.id}`,
      `/tasks/${id}`,
      `/tasks/${id}/devices/${device.id}`,
      '/settings',
    ]) {
      await page.goto(path)
      const changing = page.locator(
        'main :is([data-api], [data-each], [data-opens], [hx-post], [data-import])',
      )
      expect(await changing.count(), path).toBe(0)
    }
    await page.waitForSelector('text=This takes the role admin.')
    // The page that says so is a 403, which the browser notes.
    expect(faults.filter((fault) => !fault.endsWith('/settings'))).toEqual([])
  })

  it('the sign-in refuses a wrong key and takes the right one', async () => {
    const { key } = await system.newTenant()
    const { page } = await newPage(browser, system.url.origin)
    await page.goto('/devices')
    await page.waitForURL('**/sign-in?to=*')
    await page.fill('input[name=key]', `${key.slice(0, -4)}aaaa`)
    await page.click('button[type=submit]')
    await page.waitForSelector('text=This is not a valid key.')
    await page.fill('input[name=key]', key)
    await page.click('button[type=submit]')
    await page.waitForURL('**/devices')
    await page.click('text=Sign out')
    await page.waitForURL('**/sign-in')
    await page.goto('/devices')
    await page.waitForURL('**/sign-in?to=*')
  })
})
