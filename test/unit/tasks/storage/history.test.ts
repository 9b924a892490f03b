import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { eventInEnglish, type Params, reason } from '../../../../src/reasons/reason.ts'
import {
  type HistoryEvent,
  readEvents as parse,
  withEvent,
  writeEvents,
} from '../../../../src/tasks/storage/history.ts'

const event = (n: number, more: Partial<HistoryEvent> = {}): HistoryEvent => ({
  at: 1_800_000_000_000 + n * 1_000,
  code: 'progress',
  params: { step: n },
  ...more,
})

/** The events as plain objects, without the text that they were read from. */
const readEvents = (text: string): HistoryEvent[] =>
  parse(text).map(({ at, code, params, status, key }) => ({ at, code, params, status, key }))

describe("a device's history in its row", () => {
  it('a history is read as it was written', () => {
    const events = [
      event(0, { code: 'notice_offered', params: { noticeId: '1764000001' } }),
      event(1, { status: 'upgrading', key: 'abc' }),
      event(1, { key: 'def' }),
      event(9, { status: 'success' }),
    ]
    expect(readEvents(writeEvents(events))).toEqual(events)
    expect(readEvents(writeEvents([]))).toEqual([])
  })

  it('a history of similar details is read as it was written', () => {
    const said = fc.oneof(
      fc.constant(undefined),
      fc.string(),
      fc.nat(120).map((step) => `Upgrade Progress ${step}%`),
      fc
        .tuple(fc.nat(9), fc.nat(9), fc.constantFrom('', '0', '00'))
        .map(([a, b, zeros]) => `${zeros}${a} of ${b}`),
    )
    const what = fc.oneof(
      fc.record({
        code: fc.constantFrom('progress', 'late_progress'),
        params: fc
          .tuple(fc.integer({ min: -4, max: 100 }), said)
          .map(([step, said]): Params => (said === undefined ? { step } : { step, said })),
      }),
      fc.record({ code: fc.constant('version'), params: fc.string().map((version) => ({ version })) }),
      fc.record({ code: fc.constant('notice_sent'), params: fc.nat().map((id) => ({ noticeId: `${id}` })) }),
      fc.constantFrom(
        { code: 'subscribed', params: {} },
        { code: 'slot_freed', params: {} },
        { code: 'waits', params: { reason: reason('busy_with_task', { taskId: 'tsk_1' }) } },
        { code: 'download_began', params: { sourceVersion: 'v1' } },
      ),
    )
    fc.assert(
      fc.property(fc.array(what), (happened) => {
        const events = happened.map((more, n) => event(n, more as Partial<HistoryEvent>)).slice(-50)
        expect(readEvents(writeEvents(events))).toEqual(events)
      }),
    )
  })

  it('a long history keeps how each attempt began, and the last events', () => {
    const attempt = (from: number, start: HistoryEvent[]) => [
      ...start,
      event(from + 1, { code: 'notice_offered', params: { noticeId: `${from}` } }),
      ...Array.from({ length: 100 }, (_, n) => event(from + 2 + n, { params: { step: n } })),
    ]
    const retried = event(200, { code: 'retried', params: {} })
    const read = readEvents(writeEvents([...attempt(0, []), ...attempt(200, [retried])]))
    expect(read).toHaveLength(50)
    const beginnings = read.slice(0, 5).map(({ code, params }) => [code, params])
    expect(beginnings).toEqual([
      ['notice_offered', { noticeId: '0' }],
      ['progress', { step: 0 }],
      ['retried', {}],
      ['notice_offered', { noticeId: '200' }],
      ['progress', { step: 0 }],
    ])
    expect(read.slice(5).map(({ params }) => params.step)).toEqual(
      Array.from({ length: 45 }, (_, n) => n + 55),
    )
  })

  it('a device that polls takes one line for its questions, and flushes nothing out', () => {
    let events = [event(0, { code: 'asked', params: { via: 'HTTPS' } })]
    events.push(event(0, { code: 'notice_handed_out', params: { noticeId: '1' }, status: 'pushed' }))
    for (let n = 1; n <= 100; n++) {
      events = withEvent(events, event(n, { code: 'asked', params: { via: 'HTTPS' } }))
      events = withEvent(events, event(n, { code: 'notice_handed_out', params: { noticeId: `${n}` } }))
    }
    expect(readEvents(writeEvents(events)).map(({ code, params }) => [code, params])).toEqual([
      ['asked', { via: 'HTTPS' }],
      ['notice_handed_out', { noticeId: '1' }],
      ['asked', { via: 'HTTPS', count: 100 }],
      ['notice_handed_out', { noticeId: '100' }],
    ])
  })

  it('a history of 25 progress messages takes less than 800 characters, so that its row stays in one page', () => {
    const events = Array.from({ length: 25 }, (_, n) =>
      event(n, { params: { step: n * 4, said: `Upgrade Progress ${n * 4}%` }, key: '0123456789a' }),
    )
    expect(writeEvents(events).length).toBeLessThan(800)
  })

  it('a history that the first release wrote, with names, can still be read', () => {
    const events = [
      { at: 1_800_000_000_000, kind: 'notice offered', detail: '1764000001' },
      { at: 1_800_000_001_000, kind: 'progress', detail: '60 flashing', status: 'upgrading', key: 'abc' },
    ]
    expect(readEvents(JSON.stringify(events))).toEqual([
      { at: 1_800_000_000_000, code: 'notice_offered', params: { noticeId: '1764000001' } },
      {
        at: 1_800_000_001_000,
        code: 'progress',
        params: { step: 60, said: 'flashing' },
        status: 'upgrading',
        key: 'abc',
      },
    ])
  })

  it('a history that the last release wrote, in three spellings and with sentences, can still be read', () => {
    const stored = [
      [1_800_000_000_000, 'hold', 'the device is disabled'],
      [1_000, 'waits', 'busy with task tsk_1'],
      [1_000, 'alreadyOnTarget', null, 'success'],
      [1_000, 'cancel', 'device deleted', 'cancelled'],
      [1_000, 'notice sent', '1764000001'],
      [1_000, 'notice taken', 1764000001],
      [1_000, 'download began', 'from v1'],
      [1_000, 'progress', '10 at 10', 'upgrading', 'k1'],
      [1_000, 0, 20, 0, 'k2'],
    ]
    const events = parse(JSON.stringify(stored))
    expect(events.map(({ code, params }) => [code, params])).toEqual([
      ['waits', { text: 'the device is disabled' }],
      ['waits', { text: 'busy with task tsk_1' }],
      ['already_on_target', {}],
      ['cancelled', { text: 'device deleted' }],
      ['notice_sent', { noticeId: '1764000001' }],
      ['notice_taken', { noticeId: '1764000001' }],
      ['download_began', { text: 'from v1' }],
      ['progress', { step: 10, said: 'at 10' }],
      ['progress', { step: 20, said: 'at 20' }],
    ])
    const english = events.map(({ code, params }) => eventInEnglish(code, params))
    expect(english[0]).toEqual({ kind: 'waits', detail: 'the device is disabled' })
    expect(english[6]).toEqual({ kind: 'download began', detail: 'from v1' })
    expect(readEvents(writeEvents([...events, event(1)]))).toEqual([
      ...events.map(({ at, code, params, status, key }) => ({ at, code, params, status, key })),
      event(1),
    ])
  })

  it('a history that grows event by event is stored like one that is written at once', () => {
    const events = Array.from({ length: 60 }, (_, n) => event(n, { key: `key-${n}` }))
    let text = '[]'
    for (const each of events) text = writeEvents([...parse(text), each])
    expect(readEvents(text)).toEqual([events[0], ...events.slice(-49)])
    expect(text).toBe(writeEvents(events))
  })

  it('a history keeps 50 events: its first progress and the last 49', () => {
    const events = Array.from({ length: 80 }, (_, n) => event(n))
    expect(readEvents(writeEvents(events))).toEqual([events[0], ...events.slice(-49)])
  })

  it('a history keeps as many of its last events as 8 KB hold, and at least the last one', () => {
    const events = Array.from({ length: 40 }, (_, n) =>
      event(n, { params: { step: n, said: 'x'.repeat(500) } }),
    )
    const text = writeEvents(events)
    expect(text.length).toBeLessThanOrEqual(8 * 1024)
    const kept = readEvents(text)
    expect(kept).toEqual([events[0], ...events.slice(1 - kept.length)])
    expect(kept.length).toBeGreaterThan(10)
    const long = [event(0), event(1, { params: { step: 1, said: 'x'.repeat(10_000) } })]
    expect(readEvents(writeEvents(long))).toEqual(long.slice(1))
  })
})
