import { expect, it } from 'vitest'
import { mix32 } from '../../../src/common/hash.ts'
import { fingerprint } from '../../../src/messages/fingerprint.ts'
import { placeOf } from '../../../src/tasks/rules/waves.ts'

it('mixes a hash as MurmurHash3 does, into an unsigned number', () => {
  const known = [0, 1, 0x811c9dc5, -1, 0x7fffffff, 0xffffffff].map(mix32)
  expect(known).toEqual([0, 1364076727, 2872998923, 2180083513, 4190899880, 2180083513])
})

it('makes the fingerprints of messages that are stored already', () => {
  const made = ['', '{"step":"60"}', 'v1.0.1 für alle'].map(fingerprint)
  expect(made).toEqual(['1biic5n14q8pvy', '9vggsm1e5zm5y', 'gv4o1b1yg0t9g'])
})

it('gives devices the places that tasks under way have given them', () => {
  expect([placeOf('tsk_1', 'dev_1'), placeOf('tsk_1', 'dev_2'), placeOf('', '')]).toEqual([
    470177783, 4039221650, 1026168788,
  ])
})
