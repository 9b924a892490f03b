import { expect, it } from 'vitest'
import { readPluginLine } from '../../../bridge/brokers/plugin-line.ts'

it('every kind of line of the Mosquitto plugin is read', () => {
  const hex = Buffer.from('pä ss').toString('hex')
  expect(readPluginLine(`A 1 dev-1 ${hex}`)).toEqual({
    kind: 'A',
    number: '1',
    username: 'dev-1',
    password: 'pä ss',
  })
  expect(readPluginLine('A 2 dev-1 -')).toMatchObject({ kind: 'A', password: '' })
  expect(readPluginLine('A 2 dev-1 - 192.0.2.1')).toMatchObject({ password: '', address: '192.0.2.1' })
  expect(readPluginLine(`A 2 dev-1 ${hex} fe80::1%eth0`)).toMatchObject({ address: 'fe80::1%eth0' })
  expect(readPluginLine('O dev-1 Q')).toEqual({ kind: 'O', username: 'dev-1', share: 'requests' })
  expect(readPluginLine('S 3 dev-1 ota/devices/inform/77')).toEqual({
    kind: 'S',
    number: '3',
    username: 'dev-1',
    filter: 'ota/devices/inform/77',
  })
  expect(readPluginLine('G 4 dev-1 -')).toEqual({ kind: 'G', number: '4', username: 'dev-1' })
  expect(readPluginLine('U dev-1 ota/device/inform/dev-1')).toEqual({
    kind: 'U',
    username: 'dev-1',
    filter: 'ota/device/inform/dev-1',
  })
  expect(readPluginLine('C dev-1')).toEqual({ kind: 'C', username: 'dev-1' })
  expect(readPluginLine('D dev-1')).toEqual({ kind: 'D', username: 'dev-1' })
  expect(readPluginLine('R')).toEqual({ kind: 'R' })
})

it.each([
  '',
  'R ',
  'R dev-1',
  'C',
  'C a/b',
  'C dev-1 more',
  `C ${'a'.repeat(65)}`,
  'A 1 dev-1',
  'A x dev-1 -',
  'A 1 dev-1 abc',
  'A 1 dev-1 zz',
  'S 1 dev-1',
  'S 1 dev-1 a b',
  'U 1 dev-1 ota',
  'G 1 dev-1',
  'G 1 dev-1 x',
  'G 1 dev-1 - 192.0.2.1',
  'U dev-1 ota 192.0.2.1',
  'A 1 dev-1 - 192.0.2.1 more',
  'O dev-1',
  'O dev-1 X',
  'K dev-1',
  'C dev-1\r',
  'GET / HTTP/1.1',
])('%j is refused as no line of the Mosquitto plugin', (line) => {
  expect(readPluginLine(line)).toBeUndefined()
})
