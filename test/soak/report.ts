import type { Fault } from './compare.ts'
import type { Kill } from './kills.ts'
import type { SoakOptions } from './options.ts'
import type { Player } from './player.ts'
import type { Tap } from './tap.ts'

/** At most so many faults are printed. */
const MAX_SHOWN = 20
/** Mosquitto saves every second; messages older than this were on its disk when it was killed. */
const BROKER_MEMORY_MS = 10_000
/** Acknowledgements that arrive this long after a kill were sent before it. */
const ON_THE_WAY_MS = 100

/** Prints the result, with JSON in the last line. True if every message that must arrive did. */
export function report(
  { taken }: Tap,
  { broker, brokerKill }: SoakOptions,
  players: Player[],
  kills: Kill[],
  faults: Fault[],
  print: (line: string) => void,
): boolean {
  const sum = (name: keyof Player['counts']) => players.reduce((total, { counts }) => total + counts[name], 0)
  const missing = missingOf(players, taken)
  const isRough = broker === 'mosquitto' && brokerKill === 'sigkill'
  const roughKills = kills.filter(({ what }) => isRough && what === 'broker')
  const lostBy = attribute(missing, roughKills)
  lostBy.forEach((count, n) => {
    print(`SIGKILL ${n + 1} of the broker: ${count} messages that it had acknowledged were never handed over`)
  })
  const brokerLost = lostBy.reduce((total, count) => total + count, 0)
  const lost = missing.length - brokerLost

  // A broker that was killed with SIGKILL may deliver older messages once more, after a device's last one.
  const isExcused = ({ player }: Fault) =>
    isRough && [...(taken.get(player.username)?.keys() ?? [])].at(-1) !== player.script.messages.at(-1)?.mark
  const ours = faults.filter((fault) => !isExcused(fault))
  for (const { player, text } of ours.slice(0, MAX_SHOWN)) console.log(`${player.username}: ${text}`)
  if (ours.length > 0) console.log(`${ours.length} devices ended in another state than they reported`)
  else if (faults.length === 0) print('Every device ended in the state that it reported.')
  else print(`${faults.length} devices ended in another state, because the broker lost messages.`)

  const repeated = [...taken.values()]
    .flatMap((marks) => [...marks.values()])
    .reduce((total, times) => total + times - 1, 0)
  const figures = {
    published: sum('published'),
    acknowledged: sum('acknowledged'),
    lost,
    brokerLost,
    repeated,
  }
  console.log(JSON.stringify({ ...figures, kills: kills.length }))
  return lost === 0 && ours.length === 0
}

/** The times of acknowledgement of the messages that the Worker never took. */
const missingOf = (players: Player[], taken: Tap['taken']): number[] =>
  players.flatMap(({ username, acknowledged }) =>
    [...acknowledged].filter(([mark]) => !taken.get(username)?.has(mark)).map(([, at]) => at),
  )

/** For each kill, how many of these messages were acknowledged shortly before it and after the kill before it. */
function attribute(missing: number[], kills: Kill[]): number[] {
  return kills.map(({ at }, n) => {
    const since = Math.max(at - BROKER_MEMORY_MS, kills[n - 1]?.at ?? 0)
    return missing.filter((when) => when <= at + ON_THE_WAY_MS && when > since + ON_THE_WAY_MS).length
  })
}
