import { EVENTS, REASONS } from './english.ts'

// Reasons and events are data: a code, and what differs as parameters. Texts are made of them for each reader, by
// a table for each language; no code ever reads a text to find out what it says.

export type ReasonCode = keyof typeof REASONS
export type EventCode = keyof typeof EVENTS

/** Why something waits, ended or was left out. Plain JSON: stored, sent over RPC and shown by the API as it is. */
export interface Reason {
  code: ReasonCode
  params: Params
}

/** What differs. Times are ISO 8601; a parameter may be a reason itself. */
export type Params = Record<string, string | number | Reason>

// The parameters that a text names, so that the compiler knows them: `{name}` needs one, `[… {name} …]` may have one.
type Names<Text extends string> = Text extends `${string}{${infer Name}}${infer Rest}`
  ? Name | Names<Rest>
  : never
type Needed<Text extends string> = Text extends `${infer Before}[${string}]${infer After}`
  ? Names<Before> | Needed<After>
  : Names<Text>
type Value = string | number | Reason
type ParamsOf<Text extends string> = { [name in Needed<Text>]: Value } & {
  [name in Exclude<Names<Text>, Needed<Text>>]?: Value | null | undefined
}
type Given<Text extends string> =
  Record<never, never> extends ParamsOf<Text> ? [params?: ParamsOf<Text>] : [params: ParamsOf<Text>]

/** @example reason('wave_after_wave', { wave: 3, before: 2 }) */
export const reason = <Code extends ReasonCode>(
  code: Code,
  ...[params]: Given<(typeof REASONS)[Code]>
): Reason => ({ code, params: present(params) })

/** What earlier releases wrote down as a sentence. */
export const textReason = (text: string): Reason => ({ code: 'text', params: { text } })

/** A reason without parameters by its code; any other text stays a text. */
export const toReason = (codeOrText: string): Reason =>
  codeOrText in REASONS ? { code: codeOrText as ReasonCode, params: {} } : textReason(codeOrText)

export const isSameReason = (a: Reason | null, b: Reason | null) => JSON.stringify(a) === JSON.stringify(b)

const present = (params: Record<string, Value | null | undefined> = {}): Params =>
  Object.fromEntries(Object.entries(params).filter((entry): entry is [string, Value] => entry[1] != null))

/** A part of a filled text: its own words, or a parameter. */
export type Part = string | { name: string; value: Value }

/** Fills a text of a table; the brackets of absent parameters are left out. */
export function fill(text: string, params: Params): Part[] {
  return text.split(BRACKETS).flatMap((section, index) => {
    const isOptional = index % 2 === 1
    const parts = section.split(PARAMETER).map((part, at): Part | undefined => {
      if (at % 2 === 0) return part
      const value = params[part]
      return value === undefined ? undefined : { name: part, value }
    })
    if (isOptional && parts.includes(undefined)) return []
    return parts.filter((part) => part !== undefined && part !== '') as Part[]
  })
}

const BRACKETS = /\[([^\]]*)\]/
const PARAMETER = /\{(\w+)\}/

/** The reason in the API's English. */
export const inEnglish = ({ code, params }: Reason): string => join(fill(REASONS[code] ?? code, params))

/** An event's kind and detail in the API's English. */
export function eventInEnglish(code: EventCode, params: Params): { kind: string; detail: string | null } {
  const [kind, detail] = EVENTS[code] ?? [code, null]
  // An event of an earlier release brings its detail as a sentence.
  if (typeof params.text === 'string') return { kind, detail: params.text }
  return { kind, detail: (detail && join(fill(detail, params))) || null }
}

const join = (parts: Part[]): string =>
  parts
    .map((part) => {
      if (typeof part === 'string') return part
      return typeof part.value === 'object' ? inEnglish(part.value) : String(part.value)
    })
    .join('')
