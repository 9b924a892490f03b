import { expect, it } from 'vitest'
import { readRange } from '../../../src/downloads/range.ts'

it.each([
  ['bytes=0-', { offset: 0, length: 100 }],
  ['bytes=40-', { offset: 40, length: 60 }],
  ['bytes=40-49', { offset: 40, length: 10 }],
  ['bytes=40-1000', { offset: 40, length: 60 }],
  ['bytes=99-99', { offset: 99, length: 1 }],
  ['bytes=-30', { offset: 70, length: 30 }],
  ['bytes=-1000', { offset: 0, length: 100 }],
])('the Range header %s is read for a file of 100 bytes', (header, range) => {
  expect(readRange(header, 100)).toEqual(range)
})

it.each(['bytes=100-', 'bytes=100-200', 'bytes=-0'])(
  'the Range header %s is unsatisfiable for a file of 100 bytes',
  (header) => {
    expect(readRange(header, 100)).toBe('unsatisfiable')
  },
)

it.each([
  undefined,
  '',
  'bytes=',
  'bytes=-',
  'bytes=50-40',
  'bytes=0-1,5-6',
  'lines=1-2',
  'bytes=a-b',
  `bytes=${'9'.repeat(20)}-`,
])('the Range header %s means the whole file', (header) => {
  expect(readRange(header, 100)).toBeUndefined()
})
