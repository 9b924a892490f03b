import { expect, it } from 'vitest'
import { grantOf } from '../../../src/auth/access.ts'

const domain = { who: '@example.com', tenantId: 'ten_1', role: 'viewer' as const }
const ada = { who: 'Ada@Example.com', tenantId: 'ten_1', role: 'admin' as const }

it.each([
  ['ada@example.com', ada],
  ['ADA@EXAMPLE.COM', ada],
  ['bob@example.com', domain],
  ['bob@Example.Com', domain],
])('a grant of Access fits the address %s', (email, grant) => {
  expect(grantOf(email, [ada, domain])).toBe(grant)
})

it.each([
  'eve@evil.test@example.com',
  '"eve@evil.test"@example.com',
  'eve@example.com@evil.test',
  'ada@example.com@evil.test',
  'eve@evil.test,ada@example.com',
  'eve@evilexample.com',
  'eve@sub.example.com',
  'eve@example.com.evil.test',
  '@example.com',
  'example.com',
  'eve @example.com',
  ' ada@example.com',
  'ada@example.com\n',
  'eve@@example.com',
  'ada',
  '',
])('a grant of Access does not fit %j', (email) => {
  expect(grantOf(email, [ada, domain])).toBeUndefined()
})
