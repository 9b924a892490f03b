import { describe, expect, it } from 'vitest'
import { bars, createDisplay, inOneLine } from '../../fleet/display.ts'
import { helpText, readOptions } from '../../fleet/options.ts'
import { readBytes, readCount, readDuration, readShare } from '../../fleet/quantities.ts'
import { findTarget } from '../../fleet/target.ts'

describe('the options of npm run simulate', () => {
  it('npm run simulate has a default for every option', () => {
    expect(readOptions([])).toMatchObject({
      devices: 100,
      to: 'v1.1.0',
      withTask: true,
      seed: 1,
      behaviour: { version: 'v1.0.0', topics: 'device', failVerify: 0, download: true },
    })
  })

  it('npm run simulate reads options with their units', () => {
    const args = ['--devices', '1000', '--fail-download', '5%', '--offline', '0.1', '--offline-for', '2s']
    expect(readOptions([...args, '--size', '1MB', '--no-download', '--keep-session'])).toMatchObject({
      devices: 1000,
      size: 1_000_000,
      behaviour: {
        failDownload: 0.05,
        goOffline: 0.1,
        offlineMs: 2_000,
        download: false,
        cleanSession: false,
      },
    })
  })

  it('npm run simulate names the option that makes no sense', () => {
    expect(() => readOptions(['--devices', 'many'])).toThrow('--devices: "many"')
    expect(() => readOptions(['--fail-write', '120%'])).toThrow('--fail-write: "120%"')
    expect(() => readOptions(['--topics', 'other'])).toThrow('--topics: "other"')
    expect(() => readOptions(['--colour'])).toThrow('--colour')
  })

  it('the help of npm run simulate has every option', () => {
    expect(readOptions(['--help'])).toBeUndefined()
    for (const name of ['devices', 'mqtt', 'key', 'product', 'fail-download', 'offline', 'seed']) {
      expect(helpText()).toContain(`--${name} `)
    }
  })
})

it('quantities are read as people write them', () => {
  expect(['5%', '0.05', '100%', '0'].map(readShare)).toEqual([0.05, 0.05, 1, 0])
  expect(['500ms', '2s', '1.5m', '1h', '3'].map(readDuration)).toEqual([500, 2_000, 90_000, 3_600_000, 3_000])
  expect(['512', '100KB', '1.5MB', '2 mb'].map(readBytes)).toEqual([512, 100_000, 1_500_000, 2_000_000])
  expect(readCount('12')).toBe(12)
})

it('texts that are not quantities are refused', () => {
  for (const text of ['', '5', '-1%', 'five']) expect(() => readShare(text)).toThrow('is no share')
  for (const text of ['', '5 days', '-1s', 's']) expect(() => readDuration(text)).toThrow('is no time')
  for (const text of ['', '5GB', '1e9']) expect(() => readBytes(text)).toThrow('is no number of bytes')
  for (const text of ['', '0', '-1', '1.5']) expect(() => readCount(text)).toThrow('is no whole number')
})

describe('the target of a command', () => {
  it('the target of a command follows the environment of npm start', () => {
    expect(findTarget({}, { ADMIN_KEY: 'k', PORT: '8788', MQTT_PORT: '1884' })).toEqual({
      url: 'http://127.0.0.1:8788',
      mqttUrl: 'mqtt://127.0.0.1:1884',
      key: 'k',
    })
    expect(findTarget({}, { ADMIN_KEY: 'k' })).toEqual({
      url: 'http://127.0.0.1:8787',
      mqttUrl: 'mqtt://127.0.0.1:1883',
      key: 'k',
    })
  })

  it('the command line overrides the environment for the target of a command', () => {
    const given = { url: 'https://ota.example.com/', mqtt: 'mqtts://broker:8883', key: 'mine' }
    expect(findTarget(given, { ADMIN_KEY: 'k', PORT: '1' })).toEqual({
      url: 'https://ota.example.com',
      mqttUrl: 'mqtts://broker:8883',
      key: 'mine',
    })
  })
})

describe('the display', () => {
  const counts = { total: 4, pending: 1, pushed: 0, upgrading: 0, success: 3, failure: 0, cancelled: 0 }

  function record(isTTY: boolean) {
    const written: string[] = []
    let now = 0
    const display = createDisplay({ isTTY, write: (text) => written.push(text) }, () => now)
    return { display, written, pass: (ms: number) => (now += ms) }
  }

  it('the display redraws its block in place in a terminal', () => {
    const { display, written } = record(true)
    display.update(['one', 'two'], 'line')
    display.update(['three', 'four'], 'line')
    display.end()
    expect(written[0]).toContain('one\ntwo\n')
    expect(written[1]!.startsWith('\x1b[2F')).toBe(true)
    expect(written.join('')).not.toContain('line')
  })

  it('the display writes plain lines every few seconds outside a terminal, and the last one', () => {
    const { display, written, pass } = record(false)
    display.update(['block'], 'first')
    display.update(['block'], 'too soon')
    pass(10_000)
    display.update(['block'], 'later')
    display.update(['block'], 'last')
    display.end()
    expect(written).toEqual(['first\n', 'later\n', 'last\n'])
  })

  it('the display shows the states as bars and in one line', () => {
    expect(bars(counts)).toHaveLength(6)
    expect(bars(counts).join('\n')).toMatch(/success +█+░+ +3/)
    expect(inOneLine(counts)).toBe('1 pending, 3 success')
    expect(inOneLine({ ...counts, total: 0, pending: 0, success: 0 })).toBe('no devices yet')
  })
})
