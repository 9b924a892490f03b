/** What the Mosquitto plugin says, a line each (bridge/brokers/mosquitto/edge_ota.c). */
export type PluginLine =
  /** May this one connect? */
  | { kind: 'A'; number: string; username: string; password: string }
  /** Is there no device of this username any more? */
  | { kind: 'G'; number: string; username: string }
  /** May it subscribe to this? */
  | { kind: 'S'; number: string; username: string; filter: string }
  /** It subscribed to its own topic. */
  | { kind: 'U'; username: string; filter: string }
  /** A connection of it was opened, or closed. */
  | { kind: 'C' | 'D'; username: string }
  /** What was said before is void: those who are connected follow. */
  | { kind: 'R' }

/** The longest that the plugin sends is a question with a password of 512 bytes, in hex. */
export const MAX_LINE_LENGTH = 2_048

const LINE =
  /^(?:R|[CD] (?<who>[\w-]{1,64})|(?:U|(?<asks>[AGS]) (?<number>\d{1,20})) (?<username>[\w-]{1,64}) (?<rest>[\x21-\x7e]+))$/
const HEX = /^(?:[0-9a-f]{2})+$/

/** Undefined: the plugin says no such thing. */
export function readPluginLine(line: string): PluginLine | undefined {
  const match = LINE.exec(line)?.groups
  if (!match) return undefined
  const { who, asks, number, username, rest } = match
  if (who !== undefined) return { kind: line[0] as 'C' | 'D', username: who }
  if (username === undefined || rest === undefined) return { kind: 'R' }
  if (number === undefined) return { kind: 'U', username, filter: rest }
  if (asks === 'S') return { kind: 'S', number, username, filter: rest }
  if (asks === 'G') return rest === '-' ? { kind: 'G', number, username } : undefined
  if (rest === '-') return { kind: 'A', number, username, password: '' }
  return HEX.test(rest)
    ? { kind: 'A', number, username, password: Buffer.from(rest, 'hex').toString() }
    : undefined
}
