import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  isBase64Of,
  isSignedBy,
  type SignedFirmware,
  signedText,
} from '../../../src/protocol/firmware-signature.ts'
import { isSignatureOf, newSigningKey, signText } from '../../openssl.ts'

const FIRMWARE: SignedFirmware = {
  signingName: '灯 lamp',
  module: 'default',
  version: 'v1.1.0',
  sourceVersion: null,
  size: 432_945,
  sha256: 'ab'.repeat(32),
  counter: 0,
}

it('the text has nine lines, each ended by LF', () => {
  const sha = 'ab'.repeat(32)
  expect(signedText(FIRMWARE)).toBe(
    `edge-ota-firmware-1\n灯 lamp\ndefault\nv1.1.0\nfull\n\n432945\n${sha}\n0\n`,
  )
  expect(
    signedText({ ...FIRMWARE, module: 'MCU', sourceVersion: 'v1', size: 5e9, counter: 2 ** 53 - 1 }),
  ).toBe(`edge-ota-firmware-1\n灯 lamp\nMCU\nv1.1.0\ndiff\nv1\n5000000000\n${sha}\n9007199254740991\n`)
})

it('a field that would begin another line is refused', () => {
  for (const version of ['v1\n', '\nv1', 'a\nb', 'a\rb', 'a\u0085b', 'a\0']) {
    expect(() => signedText({ ...FIRMWARE, version })).toThrow(RangeError)
  }
})

const line = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 20 })
  .filter((text) => !/\p{Cc}/u.test(text))
const firmware: fc.Arbitrary<SignedFirmware> = fc.record({
  signingName: line,
  module: line,
  version: line,
  sourceVersion: fc.option(line),
  size: fc.nat(),
  sha256: fc.constantFrom('ab'.repeat(32), 'cd'.repeat(32)),
  counter: fc.maxSafeNat(),
})

it('two firmwares have the same text only if they are the same', () => {
  fc.assert(
    fc.property(firmware, firmware, (a, b) => {
      expect(signedText(a) === signedText(b)).toBe(JSON.stringify(a) === JSON.stringify(b))
    }),
  )
})

describe('with OpenSSL', () => {
  const { pem, publicKey } = newSigningKey()
  const signature = signText(pem, signedText(FIRMWARE))

  it('a signature that OpenSSL made fits', async () => {
    expect(isSignatureOf(pem, signedText(FIRMWARE), signature)).toBe(true)
    expect(await isSignedBy(publicKey, signature, FIRMWARE)).toBe(true)
  })

  it('it fits no other firmware and no other key', async () => {
    const others: Partial<SignedFirmware>[] = [
      { signingName: 'lamp' },
      { module: 'MCU' },
      { version: 'v1.1.1' },
      { sourceVersion: 'v1' },
      { sourceVersion: '' },
      { size: 432_946 },
      { sha256: 'cd'.repeat(32) },
      { sha256: 'AB'.repeat(32) },
      { counter: 1 },
      { version: 'v1.1.0\nfull' },
    ]
    for (const other of others) {
      expect(await isSignedBy(publicKey, signature, { ...FIRMWARE, ...other })).toBe(false)
    }
    expect(await isSignedBy(newSigningKey().publicKey, signature, FIRMWARE)).toBe(false)
  })

  it('a signature with any bit turned does not fit', async () => {
    const bytes = Buffer.from(signature, 'base64')
    for (let bit = 0; bit < bytes.byteLength * 8; bit++) {
      const turned = Buffer.from(bytes)
      turned[bit >> 3]! ^= 1 << (bit & 7)
      expect(await isSignedBy(publicKey, turned.toString('base64'), FIRMWARE)).toBe(false)
    }
  })

  it('what is no key or no signature fits nothing', async () => {
    for (const [key, value] of [
      ['', signature],
      ['AAAA', signature],
      ['!', signature],
      [publicKey, ''],
      [publicKey, 'AAAA'],
      [publicKey, signature.slice(4)],
    ] as const) {
      expect(await isSignedBy(key, value, FIRMWARE)).toBe(false)
    }
  })
})

it('base64 has one spelling', () => {
  expect(isBase64Of(2, 'AAA=')).toBe(true)
  for (const text of ['AAB=', 'AAA', 'AAA==', ' AAA=', 'AAA=\n', 'AA-_', 'AAAA', '']) {
    expect(isBase64Of(2, text)).toBe(false)
  }
})

it('the example in the README is true', async () => {
  const example = readFileSync('src/protocol/README.md', 'utf8')
  const shown = (name: string) => new RegExp(`^${name} +(\\S.*)$`, 'm').exec(example)![1]!
  const file = 'hello, lamp\n'
  const sha256 = createHash('sha256').update(file).digest('hex')
  const fields = {
    signingName: 'lamp',
    module: 'default',
    version: 'v1.1.0',
    sourceVersion: null,
    counter: 0,
  }
  const firmware = { ...fields, size: file.length, sha256 }
  expect(shown('text').replaceAll('\\n', '\n')).toBe(signedText(firmware))
  expect(await isSignedBy(shown('public key'), shown('digestsign'), firmware)).toBe(true)
})
