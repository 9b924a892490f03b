import { createHash } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { firmwareText } from '../../firmware-text.ts'
import type { Behaviour } from '../../fleet/behaviour.ts'
import { makeFirmware } from '../../fleet/firmware.ts'
import { type Fleet, startFleet } from '../../fleet/fleet.ts'
import { type StandIn, startStandIn } from '../../fleet/stand-in.ts'
import { newSigningKey, signText } from '../../openssl.ts'

// What a device does about images that its maker did not sign for it, whoever brought them to it. OpenSSL signs.

const DEVICE = { number: 'n1', accessToken: 'token-1' }
const IMAGE = makeFirmware('v2', 10_000)
const OTHER_IMAGE = makeFirmware('v9', 10_000)
const maker = newSigningKey()
const thief = newSigningKey()

type Fields = Parameters<typeof firmwareText>[0]
const signed = (fields: Partial<Fields> = {}, pem = maker.pem) => {
  const counter = fields.counter ? { signCounter: fields.counter } : {}
  const digestsign = signText(pem, firmwareText({ version: 'v2', file: IMAGE, ...fields }))
  return { digestsign, signKeyId: 'sgk_1', ...counter }
}

let server: StandIn
let fleet: Fleet
beforeEach(async () => {
  server = await startStandIn(IMAGE)
})
afterEach(async () => {
  fleet.stop()
  await server.close()
})

async function start(behaviour: Partial<Behaviour> = {}, publicKeys = [maker.publicKey]): Promise<void> {
  fleet = startFleet({
    mqttUrl: server.mqttUrl,
    devices: [DEVICE],
    behaviour: { version: 'v1', trust: { signingName: 'lamp', publicKeys }, ...behaviour },
  })
  await fleet.started()
}
const truth = () => fleet.truth().get(DEVICE.number)!

/** Sends a notice and waits for the end of the upgrade. */
async function upgrade(version: string, changes: object): Promise<void> {
  const { attempts } = truth()
  await server.notify(DEVICE, version, changes)
  await vi.waitFor(() => expect(truth().attempts).toBe(attempts + 1), { timeout: 60_000, interval: 10 })
  await fleet.finished()
}
const INSTALLED = { state: 'success', version: 'v2' }
const REFUSED = { state: 'failure', step: -3, version: 'v1', detail: 'the signature does not fit' }

describe('a device installs what its maker signed for it', () => {
  it('the full package', async () => {
    await start()
    await upgrade('v2', signed())
    expect(truth()).toMatchObject(INSTALLED)
  })

  it('a diff from the version that it runs', async () => {
    await start()
    await upgrade('v2', { isDiff: 1, ...signed({ source: 'v1' }) })
    expect(truth()).toMatchObject(INSTALLED)
  })

  it('a package for its module', async () => {
    await start({ module: 'MCU' })
    await upgrade('v2', { module: 'MCU', ...signed({ module: 'MCU' }) })
    expect(truth()).toMatchObject(INSTALLED)
  })

  it('the whole firmware, also if the notice has a name for it', async () => {
    await start()
    await upgrade('v2', { module: 'main', ...signed() })
    expect(truth()).toMatchObject(INSTALLED)
  })

  it('a package whose notice has an MD5', async () => {
    await start()
    const sign = createHash('md5').update(IMAGE).digest('hex')
    await upgrade('v2', { signMethod: 'MD5', sign, ...signed() })
    expect(truth()).toMatchObject(INSTALLED)
  })

  it('by either of two keys, whatever the notice calls the key', async () => {
    await start({}, [thief.publicKey, maker.publicKey])
    await upgrade('v2', { ...signed(), signKeyId: 'sgk_other' })
    expect(truth()).toMatchObject(INSTALLED)
  })

  it('with the counter that it runs, and with a higher one', async () => {
    await start()
    await upgrade('v2', signed({ counter: 5 }))
    expect(truth()).toMatchObject({ ...INSTALLED, counter: 5 })
    await upgrade('v3', signed({ version: 'v3', counter: 5 }))
    expect(truth()).toMatchObject({ version: 'v3', counter: 5 })
    await upgrade('v4', signed({ version: 'v4', counter: 6 }))
    expect(truth()).toMatchObject({ version: 'v4', counter: 6 })
  })
})

const md5 = (file: Uint8Array) => createHash('md5').update(file).digest('hex')

const ATTACKS: [string, object][] = [
  ['of another version', signed({ version: 'v1.9' })],
  ['of another module', signed({ module: 'WIFI' })],
  ['of another product', signed({ product: 'heater' })],
  ['of a diff, for the full package', signed({ source: 'v1' })],
  ['of the full package, for a diff', { isDiff: 1, ...signed() }],
  ['of a diff from another version', { isDiff: 1, ...signed({ source: 'v0' }) }],
  ['of another file', signed({ file: OTHER_IMAGE })],
  [
    'of another file, with its MD5 in the notice',
    { signMethod: 'MD5', sign: md5(IMAGE), ...signed({ file: OTHER_IMAGE }) },
  ],
  ['of a longer file', signed({ file: makeFirmware('v2', 10_001) })],
  ['by a key that it does not know', signed({}, thief.pem)],
  ['of a lower counter, called a higher one', { ...signed({ counter: 1 }), signCounter: 9 }],
  ['of no counter, called a higher one', { ...signed(), signCounter: 9 }],
  ['of a counter that the notice leaves out', { ...signed({ counter: 3 }), signCounter: undefined }],
  ['that is none', { ...signed(), digestsign: `${'A'.repeat(86)}==` }],
  [
    'of another line ending',
    {
      ...signed(),
      digestsign: signText(maker.pem, firmwareText({ version: 'v2', file: IMAGE }).replaceAll('\n', '\r\n')),
    },
  ],
  [
    'whose lines were moved into other fields',
    { ...signed(), digestsign: signText(maker.pem, `edge-ota-firmware-1\nlamp\ndefault\nv2\n`) },
  ],
]

describe('a device says −3 and keeps its version', () => {
  it.each(ATTACKS)('for a signature %s', async (_what, changes) => {
    await start()
    await upgrade('v2', changes)
    expect(truth()).toMatchObject(REFUSED)
    expect(server.heard.at(-1)!.message.step).toBe('-3')
  })

  it('for a signed image under another version', async () => {
    await start()
    await upgrade('v3', signed())
    expect(truth()).toMatchObject(REFUSED)
  })

  it('for an image of another module', async () => {
    await start({ module: 'WIFI' })
    await upgrade('v2', { module: 'MCU', ...signed({ module: 'MCU' }) })
    expect(truth()).toMatchObject(REFUSED)
  })

  it('for the image of another module that the broker calls its own', async () => {
    await start({ module: 'WIFI' })
    await upgrade('v2', { module: 'WIFI', ...signed({ module: 'MCU' }) })
    expect(truth()).toMatchObject(REFUSED)
  })

  it('for no signature', async () => {
    await start()
    await upgrade('v2', {})
    expect(truth()).toMatchObject({ ...REFUSED, detail: 'no signature' })
  })

  it('for a counter that is lower than that of what it runs', async () => {
    await start()
    await upgrade('v2', signed({ counter: 5 }))
    await upgrade('v1.5', signed({ version: 'v1.5', counter: 4 }))
    expect(truth()).toMatchObject({ state: 'failure', step: -3, version: 'v2', counter: 5 })
    await upgrade('v1.6', signed({ version: 'v1.6' }))
    expect(truth()).toMatchObject({ step: -3, version: 'v2', detail: 'counter 0 is lower than 5' })
  })

  it('for a diff from a version that it ran before', async () => {
    await start()
    await upgrade('v2', signed())
    await upgrade('v3', { isDiff: 1, ...signed({ version: 'v3', source: 'v1' }) })
    expect(truth()).toMatchObject({ state: 'failure', step: -3, version: 'v2' })
  })

  it('for a key that its firmware does not have any more', async () => {
    await start({}, [thief.publicKey])
    await upgrade('v2', signed())
    expect(truth()).toMatchObject(REFUSED)
  })
})

it('for a file that was swapped in the bucket, with a digest to match, it says −3', async () => {
  await server.close()
  server = await startStandIn(OTHER_IMAGE)
  await start()
  await upgrade('v2', signed())
  expect(truth()).toMatchObject(REFUSED)
})

it('a device without built-in keys installs what fits its digest, as before', async () => {
  await start({ trust: null })
  await upgrade('v2', {})
  expect(truth()).toMatchObject(INSTALLED)
})
