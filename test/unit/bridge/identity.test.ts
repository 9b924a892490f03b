import { describe, expect, it } from 'vitest'
import { envelope, userProperty } from '../../../bridge/identity.ts'

const payload = Buffer.from('{"step":1}')
const topic = 'ota/device/progress'
const base64 = payload.toString('base64')
const INVALID_NAMES = ['', 'a/b', 'a+', '#', 'a\0b', 'x'.repeat(65), 'x'.repeat(10_000), 'ä']

describe('a publisher in the user properties', () => {
  const read = (names: string | string[] | undefined, on = topic) =>
    userProperty.read({
      topic: on,
      payload,
      userProperties: names === undefined ? {} : { $client_username: names },
    })

  it('the last user property names the publisher, since a device can write the earlier ones', () => {
    expect(read('dev-1')).toEqual({ username: 'dev-1', topic, payload })
    expect(read(['victim', 'dev-1'])).toMatchObject({ username: 'dev-1' })
    expect(read(['victim', 'a/b'])).toBeUndefined()
  })

  it('user properties name no publisher if none is set, the name is invalid or the topic is not an uplink topic', () => {
    expect(read(undefined)).toBeUndefined()
    expect(read([])).toBeUndefined()
    expect(userProperty.read({ topic, payload })).toBeUndefined()
    for (const name of INVALID_NAMES) expect(read(name), JSON.stringify(name)).toBeUndefined()
    expect(read('dev-1', 'ota/device/progress/dev-1')).toBeUndefined()
  })
})

describe('a publisher in an envelope', () => {
  const read = (message: unknown) =>
    envelope.read({
      topic,
      payload: Buffer.from(typeof message === 'string' ? message : JSON.stringify(message)),
    })

  it('an envelope names its publisher in device_id or token', () => {
    expect(read({ device_id: 'dev-1', values: base64 })).toEqual({ username: 'dev-1', topic, payload })
    expect(read({ token: 'dev-1', values: base64 })).toMatchObject({ username: 'dev-1' })
    expect(read({ token: 'dev-1', device_id: 'dev-1', values: base64, more: 1 })).toMatchObject({
      username: 'dev-1',
    })
  })

  it('an envelope names no publisher if its two names differ, both are missing or it is malformed', () => {
    const none = [
      { token: 'a', device_id: 'b', values: base64 },
      { values: base64 },
      { token: 1, values: base64 },
      { token: 'a' },
      { token: 'a', values: 'no base64!' },
      [],
      'nonsense',
      '',
      null,
      ...INVALID_NAMES.map((token) => ({ token, values: base64 })),
    ]
    for (const message of none) expect(read(message), JSON.stringify(message)).toBeUndefined()
  })

  it('an envelope that a device writes itself is only the payload of its message', () => {
    const own = JSON.stringify({ token: 'victim', values: base64 })
    const wrapped = read({ token: 'dev-1', values: Buffer.from(own).toString('base64') })
    expect(wrapped).toMatchObject({ username: 'dev-1' })
    expect(String(wrapped?.payload)).toBe(own)
  })

  it('an envelope may hold at most 64 KiB', () => {
    expect(read({ token: 'a', values: Buffer.alloc(64 * 1024).toString('base64') })).toBeDefined()
    expect(read({ token: 'a', values: Buffer.alloc(64 * 1024 + 1).toString('base64') })).toBeUndefined()
  })
})
