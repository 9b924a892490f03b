import { describe, expect, it } from 'vitest'
import { eventParts, reasonParts, reasonText } from '../../../src/console/reasons.ts'
import { EVENTS, REASONS } from '../../../src/reasons/english.ts'
import { type EventCode, type ReasonCode, reason, textReason } from '../../../src/reasons/reason.ts'
import { closedUntil } from '../../../src/tasks/rules/window.ts'

const LANGUAGES = ['en', 'zh'] as const
const namesIn = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!).sort()

/** A parameter for every name that any text could ask for. */
const anyParams = new Proxy({} as Record<string, string>, { get: (_, name) => `<${String(name)}>` })

describe('the texts of reasons and events', () => {
  it.each(Object.keys(REASONS) as ReasonCode[])(
    'the reason %s has a text in every language, with the same parameters',
    (code) => {
      for (const language of LANGUAGES) {
        const names = reasonParts({ code, params: anyParams }, language).flatMap((part) =>
          typeof part === 'string' ? [] : part.name,
        )
        expect(names.sort(), `${code} in ${language}`).toEqual(namesIn(REASONS[code]))
      }
    },
  )

  it('every Chinese text is Chinese, but for those that only repeat a parameter', () => {
    for (const code of Object.keys(REASONS) as ReasonCode[]) {
      if (code !== 'text') expect(reasonText({ code, params: {} }, 'zh'), code).toMatch(/\p{Script=Han}/u)
    }
    for (const code of Object.keys(EVENTS) as EventCode[]) {
      expect(eventParts(code, {}, 'zh').kind, code).toMatch(/\p{Script=Han}/u)
    }
  })

  it.each(Object.keys(EVENTS) as EventCode[])(
    'the event %s has a text in every language, with the same parameters',
    (code) => {
      for (const language of LANGUAGES) {
        const { kind, detail } = eventParts(code, withoutText(anyParams), language)
        expect(kind).not.toBe('')
        const names = detail.flatMap((part) => (typeof part === 'string' ? [] : part.name))
        expect(names.sort(), `${code} in ${language}`).toEqual(namesIn(EVENTS[code][1] ?? ''))
      }
    },
  )

  it('leaves out what is in brackets if its parameter is absent', () => {
    expect(reasonText(reason('write_failed'), 'zh')).toBe('烧写失败')
    expect(reasonText(reason('write_failed', { said: 'sector 7: bad' }), 'zh')).toBe(
      '烧写失败：sector 7: bad',
    )
    expect(reasonText(reason('write_failed', { said: 'sector 7: bad' }), 'en')).toBe(
      'write failed: sector 7: bad',
    )
  })

  it("shows a device's own words as they are, whatever they resemble", () => {
    expect(reasonText(reason('write_failed', { said: '$& {said} [x] (' }), 'en')).toBe(
      'write failed: $& {said} [x] (',
    )
    expect(reasonText(textReason('the task is paused'), 'zh')).toBe('the task is paused')
  })

  it('says a reason inside a reason in the same language', () => {
    const window = { days: ['mon'], from: '01:00', to: '05:00', timeZone: 'Asia/Shanghai' } as const
    const closed = closedUntil({ ...window, days: ['mon'] }, 0)
    expect(reasonText(closed, 'en')).toBe('outside its window until Monday 1970-01-05 01:00 Asia/Shanghai')
    expect(reasonText(closed, 'zh')).toBe('不在升级时段内，直到 1970-01-05（周一）01:00 Asia/Shanghai')
  })

  it('shows the code of a reason that a later release has written', () => {
    expect(reasonText({ code: 'of_tomorrow' as ReasonCode, params: {} }, 'en')).toBe('of_tomorrow')
    expect(eventParts('of_tomorrow' as EventCode, {}, 'zh')).toEqual({ kind: 'of_tomorrow', detail: [] })
  })
})

/** An event of an earlier release has its detail in `text`; these have none. */
const withoutText = (params: Record<string, string>) =>
  new Proxy(params, { get: (target, name) => (name === 'text' ? undefined : Reflect.get(target, name)) })
