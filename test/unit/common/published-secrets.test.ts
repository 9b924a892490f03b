import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { publishedSecrets } from '../../../src/common/published-secrets.ts'
import { isLoopback, isLoopbackUrl } from '../../../src/protocol/loopback.ts'

it('every secret that wrangler.toml shows to the world is known as public', () => {
  const text = readFileSync('wrangler.toml', 'utf8')
  const shown = [...text.matchAll(/^([A-Z0-9_]*(?:KEY|SECRET|TOKEN|PASSWORD)[A-Z0-9_]*) = "(.+)"$/gm)]
  expect(shown.map(([, name]) => name).sort()).toEqual([
    'DOWNLOAD_SIGNING_KEY',
    'R2_ACCESS_KEY_ID',
    'R2_SECRET_ACCESS_KEY',
    'SESSION_SECRET',
  ])
  for (const [, name, value] of shown) expect(publishedSecrets({ [name!]: value })).toEqual([name])
  // One public value in the place of another is no better.
  expect(publishedSecrets({ SESSION_SECRET: 'local-signing-key' })).toEqual(['SESSION_SECRET'])
  expect(publishedSecrets({ SESSION_SECRET: 'my own', DOWNLOAD_SIGNING_KEY: '' })).toEqual([])
})

it('only what cannot leave the machine is loopback', () => {
  for (const host of ['localhost', 'LOCALHOST', '127.0.0.1', '127.8.8.8', '[::1]', '::1']) {
    expect([host, isLoopback(host)]).toEqual([host, true])
  }
  for (const host of [
    '',
    '0.0.0.0',
    '10.0.0.1',
    '[::]',
    'localhost.example.com',
    '127.0.0.1.nip.io',
    'x.localhost',
  ]) {
    expect([host, isLoopback(host)]).toEqual([host, false])
  }
  expect(isLoopbackUrl('http://2130706433:8787')).toBe(true) // 127.0.0.1, as one number
  expect(isLoopbackUrl('http://127.0.0.1@example.com')).toBe(false)
  expect(isLoopbackUrl('not a URL')).toBe(false)
})
