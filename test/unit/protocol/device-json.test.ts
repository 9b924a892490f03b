import { Buffer } from 'node:buffer'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  type Read,
  readJson,
  readMessageId,
  readProgress,
  readVersionReport,
} from '../../../src/protocol/device.ts'

const bytes = (text: string) => new TextEncoder().encode(text)
const latin1 = (text: string) => new Uint8Array(Buffer.from(text, 'latin1'))

type Message = Record<string, unknown>
const reading =
  <T>(read: (message: Message) => Read<T>) =>
  (payload: string | Uint8Array) => {
    const json = readJson(typeof payload === 'string' ? bytes(payload) : payload)
    return json.ok ? read(json.value) : json
  }
const progress = reading(readProgress)
const report = reading(readVersionReport)
const stepOf = (payload: string | Uint8Array) => {
  const read = progress(payload)
  return read.ok ? read.value.step : read.code
}
const isDamaged = (payload: string) => {
  const json = readJson(bytes(payload))
  return json.ok && json.isDamaged === true
}

describe('a failure is read whatever is wrapped around it', () => {
  it.each<[string, string | Uint8Array]>([
    ['a zero at the end', '{"step":"-4"}\0'],
    ['a buffer full of zeros', `{"step":"-4"}${'\0'.repeat(200)}`],
    ['a line end and blanks', ' \r\n{"step":"-4"}\r\n\t '],
    ['a byte order mark', '\ufeff{"step":"-4"}'],
    ['a raw tab in a text', '{"step":"-4","desc":"disk\tfull"}'],
    ['a raw line end in a text', '{"step":"-4","desc":"disk\r\nfull"}'],
    ['a zero in a text', '{"step":"-4\0\0","desc":"disk\0full"}'],
    ['a single backslash', '{"step":"-4","desc":"C:\\flash\\x\\u12"}'],
    ['GBK', new Uint8Array([...bytes('{"step":"-4","desc":"'), 0xc9, 0xfd, 0xbc, 0xb6, ...bytes('"}')])],
    ['Latin-1', latin1('{"step":"-4","desc":"été raté à 5\xb0"}')],
  ])('%s', (_what, payload) => {
    expect(stepOf(payload)).toBe(-4)
  })

  it('texts in GBK and Latin-1 are read as they were meant', () => {
    const gbk = new Uint8Array([...bytes('{"step":-4,"desc":"'), 0xc9, 0xfd, 0xbc, 0xb6, ...bytes('"}')])
    expect(progress(gbk)).toMatchObject({ value: { description: '升级' } })
    expect(progress(latin1('{"step":-4,"desc":"raté"}'))).toMatchObject({ value: { description: 'raté' } })
  })

  it('control characters in a description are kept as blanks', () => {
    expect(progress('{"step":-4,"desc":"disk\t\x1b[31mfull"}')).toMatchObject({
      value: { description: 'disk  [31mfull' },
    })
  })

  it.each([
    ['cut off in its description', '{"step":"-4","desc":"disk fu'],
    ['without its last brace', '{"step":"-4"'],
    ['with rubbish behind it', '{"step":"-4"}xx'],
    ['an unescaped quote', '{"step":"-4","desc":"disk "sda" full"}'],
    ['a backslash before the last quote', '{"step":"-4","desc":"C:\\"}'],
    ['a comma too many', '{"step":-4,}'],
    ['single quotes', "{'step':'-4'}"],
    ['no quotes', '{step:-4,desc:disk full}'],
    ['the same again in its description', '{"step":"-4","desc":"at step: 7 "x""}'],
    ['with its id and wrapping', '{"id":"1","params":{"step":"-4","module":"MCU"'],
  ])('no JSON, %s: the step is taken, and noted as damaged', (_what, payload) => {
    expect(stepOf(payload)).toBe(-4)
    expect(isDamaged(payload)).toBe(true)
  })

  it.each([
    ['cut off in the step', '{"step":"-4'],
    ['cut off in a number', '{"step":1'],
    ['two different steps', '{"step":"1"}{"step":"-4"}'],
    ['a module that is cut off', '{"step":"-4","module":"MC'],
    ['neither step nor version', '{"desc":"-4"'],
    ['a step in quotes of two kinds', '{"step":"-4\'}'],
  ])('no JSON, %s: in doubt it is a rejection', (_what, payload) => {
    expect(progress(payload)).toEqual({ ok: false, code: 'not_json' })
  })

  it('a version is taken from a damaged report, with its module', () => {
    expect(report('{"params":{"version":"v2","module":"MCU"},')).toEqual({
      ok: true,
      value: { version: 'v2', module: 'MCU' },
    })
  })
})

describe('numbers are read digit for digit', () => {
  it.each([
    '"0x64"',
    '"1e2"',
    '1e2',
    '1E+2',
    '"+5"',
    '"5 0"',
    '"１００"',
    '"Infinity"',
    '"- 4"',
    '"50%%"',
    '".5"',
  ])('the step %s is refused', (step) =>
    expect(progress(`{"step":${step}}`)).toEqual({ ok: false, code: 'no_step' }),
  )

  it.each([
    ['"50%"', 50],
    ['"50 % "', 50],
    ['99.9', 99],
    ['100.0', 100],
    ['"007"', 7],
  ])('the step %s is %i', (step, expected) => expect(stepOf(`{"step":${step}}`)).toBe(expected))

  it('an integer is a version, a fraction is none', () => {
    expect(report('{"params":{"version":12345678901234567890}}')).toMatchObject({
      value: { version: '12345678901234567890' },
    })
    for (const version of ['1.10', '1e3', '1.0']) {
      expect(report(`{"params":{"version":${version}}}`)).toEqual({ ok: false, code: 'version_is_fraction' })
    }
    expect(report('{"params":{"version":"1.10"}}')).toMatchObject({ value: { version: '1.10' } })
  })

  it('the id of a message comes back as it was', () => {
    const json = readJson(bytes('{"id":12345678901234567890}'))
    expect(json.ok && readMessageId(json.value)).toBe('12345678901234567890')
  })

  it('lengths count characters as a reader does', () => {
    expect(report(`{"version":"${'🙂'.repeat(64)}"}`).ok).toBe(true)
    expect(report(`{"version":"${'🙂'.repeat(65)}"}`)).toEqual({ ok: false, code: 'version_too_long' })
  })
})

describe('any payload', () => {
  it('what JSON.parse reads is read the same', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.string()), (message) => {
        expect(readJson(bytes(JSON.stringify(message)))).toEqual({ ok: true, value: message })
      }),
    )
  })

  it('is read or refused, and never throws', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (payload) => {
        expect(readJson(payload)).toHaveProperty('ok')
      }),
    )
  })

  it('64 KB of anything are refused, and keep nobody waiting', () => {
    for (const part of [
      '"',
      '\\',
      '"\\',
      '{"step":',
      '"step":"',
      ' ',
      '\0',
      "'",
      '"a":"\t',
      'step: ',
      'step:1',
    ]) {
      const text = part.repeat(Math.floor(65_000 / part.length))
      for (const whole of [`${text}x`, `x${text}`, `{"step":"${text}x`, `{"step":1${text}`]) {
        const read = progress(whole)
        expect(read.ok && read.value.step, whole.slice(0, 30)).not.toBe(-4)
      }
    }
  })
})
