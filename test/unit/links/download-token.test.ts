import fc from 'fast-check'
import { expect, it } from 'vitest'
import { newId } from '../../../src/common/ids.ts'
import { type Grant, importTokenKey, makeToken, readToken, TOKEN_LENGTH } from '../../../src/links/token.ts'

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
/** The largest expiry that fits into a token, in seconds: the year 2106. */
const LAST_SECOND = 2 ** 32 - 1

const key = await importTokenKey('a secret')

const grant: fc.Arbitrary<Grant> = fc.record({
  taskId: fc.nat().map(() => newId('tsk')),
  deviceId: fc.nat().map(() => newId('dev')),
  packageIndex: fc.nat(255),
  expiresAt: fc.nat(LAST_SECOND).map((seconds) => seconds * 1000),
})

it('a token reads back as its grant, has a fixed length, and needs no escaping in a URL', async () => {
  await fc.assert(
    fc.asyncProperty(grant, async (made) => {
      const token = await makeToken(key, made)
      expect(token).toMatch(/^[A-Za-z0-9_-]+$/)
      expect(token).toHaveLength(TOKEN_LENGTH)
      expect(await readToken(key, token)).toEqual(made)
    }),
  )
})

it('a token with one changed character is refused', async () => {
  await fc.assert(
    fc.asyncProperty(
      grant,
      fc.nat(TOKEN_LENGTH - 1),
      fc.constantFrom(...ALPHABET),
      async (made, at, character) => {
        const token = await makeToken(key, made)
        fc.pre(token[at] !== character)
        expect(await readToken(key, token.slice(0, at) + character + token.slice(at + 1))).toBeUndefined()
      },
    ),
  )
})

it('a token that is cut short, made longer or spelled another way is refused', async () => {
  const token = await makeToken(key, fc.sample(grant, 1)[0]!)
  for (const cut of Array.from(token, (_, length) => token.slice(0, length))) {
    expect(await readToken(key, cut)).toBeUndefined()
    expect(await readToken(key, cut.padEnd(TOKEN_LENGTH, '='))).toBeUndefined()
  }
  expect(await readToken(key, `${token}A`)).toBeUndefined()
  const standard = Buffer.from(token, 'base64url').toString('base64').replace(/=+$/, '')
  if (standard !== token) expect(await readToken(key, standard)).toBeUndefined()
})

it('a token made with another key is refused', async () => {
  const token = await makeToken(key, fc.sample(grant, 1)[0]!)
  expect(await readToken(await importTokenKey('another'), token)).toBeUndefined()
})
