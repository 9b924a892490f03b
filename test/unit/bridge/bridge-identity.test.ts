import { describe, expect, it } from 'vitest'
import { envelope, userProperty } from '../../../bridge/identity.ts'

const payload = Buffer.from('{"step":1}')
const topic = 'ota/device/progress'
const base64 = payload.toString('base64')
const NAMES_THAT_ARE_NONE = ['', 'a/b', 'a+', '#', 'a\0b', 'x'.repeat(65), 'x'.repeat(10_000), 'ä']

describe('a publisher in the user properties', () => {
  const read = (names: string | string[] | undefined, on = topic) =>
    userProperty.read({
      ...{ topic: on, payload },
      userProperties: names === undefined ? {} : { $client_username: names },
    })

  it('is the last one, since a device can write the earlier ones', () => {
    expect(read('dev-1')).toEqual({ username: 'dev-1', topic, payload })
    expect(read(['victim', 'dev-1'])).toMatchObject({ username: 'dev-1' })
    expect(read(['victim', 'a/b'])).toBeUndefined()
  })

  it('is nobody where there is none, or no name, or another topic', () => {
    expect(read(undefined)).toBeUndefined()
    expect(read([])).toBeUndefined()
    expect(userProperty.read({ topic, payload })).toBeUndefined()
    for (const name of NAMES_THAT_ARE_NONE) expect(read(name), JSON.stringify(name)).toBeUndefined()
    expect(read('dev-1', 'ota/device/progress/dev-1')).toBeUndefined()
  })
})

describe('a publisher in an envelope', () => {
  const read = (message: unknown) =>
    envelope.read({
      topic,
      payload: Buffer.from(typeof message === 'string' ? message : JSON.stringify(message)),
    })

  it('is its device_id or token', () => {
    expect(read({ device_id: 'dev-1', values: base64 })).toEqual({ username: 'dev-1', topic, payload })
    expect(read({ token: 'dev-1', values: base64 })).toMatchObject({ username: 'dev-1' })
    expect(read({ token: 'dev-1', device_id: 'dev-1', values: base64, more: 1 })).toMatchObject({
      username: 'dev-1',
    })
  })

  it('is nobody where two names differ, or there is none, or it is no envelope', () => {
    const none = [
      ...[{ token: 'a', device_id: 'b', values: base64 }, { values: base64 }, { token: 1, values: base64 }],
      ...[{ token: 'a' }, { token: 'a', values: 'no base64!' }, [], 'nonsense', '', null],
      ...NAMES_THAT_ARE_NONE.map((token) => ({ token, values: base64 })),
    ]
    for (const message of none) expect(read(message), JSON.stringify(message)).toBeUndefined()
  })

  it('cannot be written by a device: its own envelope is only what it published', () => {
    const own = JSON.stringify({ token: 'victim', values: base64 })
    const wrapped = read({ token: 'dev-1', values: Buffer.from(own).toString('base64') })
    expect(wrapped).toMatchObject({ username: 'dev-1' })
    expect(String(wrapped?.payload)).toBe(own)
  })

  it('holds no more than a message may', () => {
    expect(read({ token: 'a', values: Buffer.alloc(64 * 1024).toString('base64') })).toBeDefined()
    expect(read({ token: 'a', values: Buffer.alloc(64 * 1024 + 1).toString('base64') })).toBeUndefined()
  })
})
