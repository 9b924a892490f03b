import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type HistoryEvent, readEvents as parse, writeEvents } from '../../../../src/tasks/storage/history.ts'

const event = (n: number, more: Partial<HistoryEvent> = {}): HistoryEvent => ({
  at: 1_800_000_000_000 + n * 1_000,
  kind: 'progress',
  detail: `${n}`,
  ...more,
})

/** The events as plain objects, without the text that they were read from. */
const readEvents = (text: string): HistoryEvent[] =>
  parse(text).map(({ at, kind, detail, status, key }) => ({ at, kind, detail, status, key }))

describe("a device's history in its row", () => {
  it('a history is read as it was written', () => {
    const events = [
      event(0, { kind: 'notice offered', detail: null }),
      event(1, { status: 'upgrading', key: 'abc' }),
      event(1, { key: 'def' }),
      event(9, { status: 'success' }),
    ]
    expect(readEvents(writeEvents(events))).toEqual(events)
    expect(readEvents(writeEvents([]))).toEqual([])
  })

  it('a history of similar details is read as it was written', () => {
    const details = fc.oneof(
      fc.constant(null),
      fc.string(),
      fc.nat(120).map((step) => `${step} %: Upgrade Progress ${step}%`),
      fc
        .tuple(fc.nat(9), fc.nat(9), fc.constantFrom('', '0', '00'))
        .map(([a, b, zeros]) => `${zeros}${a} of ${b}`),
    )
    fc.assert(
      fc.property(
        fc.array(fc.record({ detail: details, kind: fc.constantFrom('progress', 'version') })),
        (said) => {
          const events = said.map((more, n) => event(n, more)).slice(-50)
          expect(readEvents(writeEvents(events))).toEqual(events)
        },
      ),
    )
  })

  it('a history of 25 progress messages takes less than 800 characters, so that its row stays in one page', () => {
    const events = Array.from({ length: 25 }, (_, n) =>
      event(n, { detail: `${n * 4} %: Upgrade Progress ${n * 4}%`, key: '0123456789a' }),
    )
    expect(writeEvents(events).length).toBeLessThan(800)
  })

  it('a history in the earlier format can still be read', () => {
    const events = [event(0, { key: 'abc' }), event(3)]
    expect(readEvents(JSON.stringify(events))).toEqual(events)
  })

  it('a history that grows event by event is stored like one that is written at once', () => {
    const events = Array.from({ length: 60 }, (_, n) => event(n, { key: `key-${n}` }))
    let text = '[]'
    for (const each of events) text = writeEvents([...parse(text), each])
    expect(readEvents(text)).toEqual(events.slice(-50))
    expect(text).toBe(writeEvents(events))
  })

  it('a history keeps the last 50 events', () => {
    const events = Array.from({ length: 80 }, (_, n) => event(n))
    expect(readEvents(writeEvents(events))).toEqual(events.slice(-50))
  })

  it('a history keeps as many of its last events as 8 KB hold, and at least the last one', () => {
    const events = Array.from({ length: 40 }, (_, n) => event(n, { detail: 'x'.repeat(500) }))
    const text = writeEvents(events)
    expect(text.length).toBeLessThanOrEqual(8 * 1024)
    const kept = readEvents(text)
    expect(kept).toEqual(events.slice(-kept.length))
    expect(kept.length).toBeGreaterThan(10)
    const long = [event(0), event(1, { detail: 'x'.repeat(10_000) })]
    expect(readEvents(writeEvents(long))).toEqual(long.slice(1))
  })
})
