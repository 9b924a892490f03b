/** One line from the Mosquitto plugin (bridge/brokers/mosquitto/edge_ota.c). A question has a number. */
export type PluginLine =
  /** Question: may this username connect? An earlier plugin does not tell the device's address. */
  | { kind: 'A'; number: string; username: string; password: string; address?: string }
  /** Question: is the device of this username gone? */
  | { kind: 'G'; number: string; username: string }
  /** Question: may this username subscribe to this filter? */
  | { kind: 'S'; number: string; username: string; filter: string }
  /** The username subscribed to one of its own topics. */
  | { kind: 'U'; username: string; filter: string }
  /** A connection of the username was opened, or closed. */
  | { kind: 'C' | 'D'; username: string }
  /** The plugin closed or refused a connection of the username, since it took more than its share. */
  | { kind: 'O'; username: string; share: 'messages' | 'requests' | 'connections' }
  /** All earlier lines about presence are void; lines for all open connections follow. */
  | { kind: 'R' }

/** The longest line is a question with a password of 512 bytes, in hex. */
export const MAX_LINE_LENGTH = 2_048

const LINE =
  /^(?:R|[CD] (?<who>[\w-]{1,64})|(?:[OU]|(?<asks>[AGS]) (?<number>\d{1,20})) (?<username>[\w-]{1,64}) (?<rest>[\x21-\x7e]+)(?: (?<address>[\w.:%-]{1,64}))?)$/
const SHARES = { M: 'messages', Q: 'requests', C: 'connections' } as const
const HEX = /^(?:[0-9a-f]{2})+$/

/** Returns undefined if this is no line of the plugin. */
export function readPluginLine(line: string): PluginLine | undefined {
  const match = LINE.exec(line)?.groups
  if (!match) return undefined
  const { who, asks, number, username, rest, address } = match
  if (who !== undefined) return { kind: line[0] as 'C' | 'D', username: who }
  if (username === undefined || rest === undefined) return { kind: 'R' }
  if (address !== undefined && asks !== 'A') return undefined
  if (line[0] === 'O') return rest in SHARES ? { kind: 'O', username, share: SHARES[rest as 'M'] } : undefined
  if (number === undefined) return { kind: 'U', username, filter: rest }
  if (asks === 'S') return { kind: 'S', number, username, filter: rest }
  if (asks === 'G') return rest === '-' ? { kind: 'G', number, username } : undefined
  if (rest !== '-' && !HEX.test(rest)) return undefined
  const password = rest === '-' ? '' : Buffer.from(rest, 'hex').toString()
  return { kind: 'A', number, username, password, ...(address !== undefined && { address }) }
}
