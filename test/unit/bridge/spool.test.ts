import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createIntake } from '../../../bridge/intake.ts'
import { openSpool, type SpoolItem } from '../../../bridge/spool.ts'
import { batchItem } from '../../../src/protocol/bridge.ts'

const log = pino({ level: 'silent' })
const message = (text: string, username = 'dev-1'): SpoolItem => ({
  kind: 'message',
  username,
  topic: 'ota/device/progress',
  payload: Buffer.from(text).toString('base64'),
})
const entry = (text: string, key = 'dev-1', at: number | null = null) => ({
  key,
  at,
  body: JSON.stringify(message(text, key)),
})
const textOf = (json: string) => Buffer.from(JSON.parse(json).payload, 'base64').toString()

let dir: string
let file: string
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'spool-'))
  file = join(dir, 'deep', 'spool.db')
})
afterEach(() => rmSync(dir, { recursive: true }))
const open = (hardLimitBytes?: number) => openSpool(file, { sync: 'normal', hardLimitBytes })

describe('the spool', () => {
  it('the spool returns its items in order, as valid batch items', () => {
    const spool = open()
    spool.append([entry('1', 'a', 1_000), entry('2', 'b')])
    spool.append([entry('3', 'a')])
    const items = spool.peek(10, 1e6, [])
    expect(items.map((item) => textOf(item.json))).toEqual(['1', '2', '3'])
    for (const item of items) expect(batchItem.parse(JSON.parse(item.json)).id).toBe(item.id)
    expect(JSON.parse(items[0]!.json).at).toBe(1_000)
    expect(JSON.parse(items[1]!.json)).not.toHaveProperty('at')
    spool.close()
  })

  it('the spool survives a restart, and its ids are never reused', () => {
    const first = open()
    first.append([entry('1'), entry('2')])
    const [one, two] = first.peek(10, 1e6, [])
    first.drop([one!, two!])
    first.append([entry('3')])
    first.close()

    const second = open()
    expect(second.depth()).toBe(1)
    second.append([entry('4')])
    const items = second.peek(10, 1e6, [])
    expect(items.map((item) => textOf(item.json))).toEqual(['3', '4'])
    second.drop(items)
    second.close()

    const third = open()
    third.append([entry('5')])
    const ids = [one!, two!, ...items, ...third.peek(10, 1e6, [])].map((item) => item.id)
    expect(new Set(ids).size).toBe(5)
    expect(Math.max(...ids.map((id) => id.length))).toBeLessThan(12)
    third.close()
  })

  it('only one bridge can open a spool', () => {
    const spool = open()
    expect(() => open()).toThrow(/locked/)
    spool.close()
  })

  it('the spool limits a batch by number and by bytes, but always returns one item', () => {
    const spool = open()
    spool.append([entry('x'.repeat(600)), entry('y'.repeat(600)), entry('z')])
    expect(spool.peek(2, 1e6, [])).toHaveLength(2)
    expect(spool.peek(10, 1_500, [])).toHaveLength(1)
    expect(spool.peek(10, 10, [])).toHaveLength(1)
    spool.close()
  })

  it('the spool leaves out excepted devices, and knows when its oldest item came', () => {
    const spool = open()
    spool.append([entry('1', 'a', 10), entry('2', 'b', 20), entry('3', 'a', 30), entry('4', 'b')])
    expect(spool.peek(9, 1e6, ['a']).map((item) => textOf(item.json))).toEqual(['2', '4'])
    expect(spool.oldest()).toEqual({ at: 10 })
    spool.drop(spool.peek(3, 1e6, []))
    expect(spool.oldest()).toEqual({ at: null })
    spool.drop(spool.peek(3, 1e6, []))
    expect(spool.oldest()).toBeUndefined()
    spool.close()
  })

  it('the spool keeps an item that the Worker cannot read as a dead letter', () => {
    const spool = open()
    spool.append([entry('1'), entry('2')])
    spool.moveToDeadLetters(spool.peek(1, 1e6, [])[0]!, 'status 400')
    expect(spool.depth()).toBe(1)
    expect(spool.deadLetters()).toMatchObject([{ reason: 'status 400' }])
    expect(textOf(spool.peek(1, 1e6, [])[0]!.json)).toBe('2')
    spool.close()
  })

  it('of one device the spool gives only so many items at once, in order, and the others after them', () => {
    const spool = open()
    for (const text of ['1', '2', '3', '4']) spool.append([entry(text)])
    spool.append([{ ...entry('5'), key: 'dev-2' }])
    const seen = spool.peek(10, 1e6, [], 2).map(({ json }) => textOf(json))
    expect(seen).toEqual(['1', '2', '5'])
    expect(spool.peek(2, 1e6, [], 2).map(({ json }) => textOf(json))).toEqual(['1', '2'])
    spool.close()
  })

  it('the spool knows what it holds of each device, also after a restart, and its oldest item but for some', () => {
    const spool = open()
    spool.append([
      { ...entry('1'), at: 1 },
      { ...entry('2'), key: 'dev-2', at: 2 },
    ])
    const [first, second] = spool.peek(2, 1e6, [])
    expect([spool.bytesOf(first!.key), spool.bytesOf('dev-2')]).toEqual([first!.size, second!.size])
    expect([spool.oldest(), spool.oldest([first!.key]), spool.oldest([first!.key, 'dev-2'])]).toEqual([
      { at: 1 },
      { at: 2 },
      undefined,
    ])
    spool.close()
    const again = open()
    expect(again.bytesOf('dev-2')).toBe(second!.size)
    again.drop(again.peek(10, 1e6, []))
    expect(again.bytesOf('dev-2')).toBe(0)
    again.close()
  })

  it('the spool knows its depth and bytes, also after a restart', () => {
    const spool = open()
    spool.append([entry('1'), entry('2')])
    const bytes = spool.bytes()
    spool.close()
    const again = open()
    expect([again.depth(), again.bytes()]).toEqual([2, bytes])
    again.drop(again.peek(10, 1e6, []))
    expect([again.depth(), again.bytes()]).toEqual([0, 0])
    again.close()
  })
})

describe('the intake', () => {
  const here = () => false
  const intakeOf = (spool: ReturnType<typeof open>, maxBytes = 1e9, maxBytesOfDevice = 1e9) =>
    createIntake(spool, { maxBytes, maxBytesOfDevice, workerTime: () => 7, onShare: () => {}, log })

  it('the intake writes everything of one turn in one transaction, then calls its listeners', async () => {
    const spool = open()
    const intake = intakeOf(spool)
    let writes = 0
    intake.onWritten(() => writes++)
    intake.keep('dev-1', { kind: 'presence', event: 'connected', username: 'dev-1' })
    const all = ['1', '2', '3'].map((text) => intake.message('dev-1', message(text), here))
    expect(spool.depth()).toBe(0)
    await Promise.all(all)
    expect(spool.depth()).toBe(4)
    expect(writes).toBe(1)
    intake.close()
    spool.close()
  })

  it('the intake refuses messages on a full disk, keeps facts, and goes on when there is room', async () => {
    const spool = open(64 * 1024)
    const intake = intakeOf(spool)
    const fill = async () => {
      for (;;) await intake.message('dev-1', message('x'.repeat(4_000)), here)
    }
    await expect(fill()).rejects.toThrow(/cannot be written/)
    const written = spool.depth()
    intake.keep('dev-1', { kind: 'presence', event: 'connected', username: 'dev-1' })
    await expect(intake.message('dev-1', message('x'.repeat(4_000)), here)).rejects.toThrow()
    expect(spool.depth()).toBe(written)

    spool.drop(spool.peek(5, 1e6, []))
    await intake.message('dev-1', message('after'), here)
    const items = spool.peek(100, 1e6, []).map((item) => JSON.parse(item.json))
    expect(items.at(-2)).toMatchObject({ event: 'connected' })
    expect(items.at(-1)).toMatchObject({ payload: Buffer.from('after').toString('base64') })
    intake.close()
    spool.close()
  })

  it('the intake holds messages back in order while the spool is full, and rejects those of devices that left', async () => {
    const spool = open()
    const intake = intakeOf(spool, 50)
    await intake.message('dev-1', message('first'), here)
    const order: string[] = []
    const held = ['a', 'b', 'c'].map((text) =>
      intake.message('dev-1', message(text), here).then(() => order.push(text)),
    )
    await new Promise((resolve) => setImmediate(resolve))
    expect(spool.depth()).toBe(1)
    await expect(intake.message('dev-1', message('gone'), () => true)).rejects.toThrow(/full/)

    spool.drop(spool.peek(10, 1e6, []))
    intake.drained()
    await Promise.all(held)
    expect(order).toEqual(['a', 'b', 'c'])
    expect(spool.peek(10, 1e6, []).map((item) => textOf(item.json))).toEqual(['a', 'b', 'c'])
    intake.close()
    spool.close()
  })
})
