import type { Fault } from './compare.ts'
import type { Kill } from './kills.ts'
import type { SoakOptions } from './options.ts'
import type { Player } from './player.ts'
import type { Tap } from './tap.ts'

/** What is shown of faults. */
const MAX_SHOWN = 20
/** Mosquitto saves each second what it has: what is older was on its disk when it was killed. */
const BROKER_MEMORY_MS = 10_000
/** Acknowledgements that were on their way when it was killed. */
const ON_THE_WAY_MS = 100

/** Prints how it went, as JSON in the last line; answers whether nothing was lost that must not be. */
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

  // Such a broker also forgets, and hands out older messages once more: then the device's last is not what came last.
  const isExcused = ({ player }: Fault) =>
    isRough && [...(taken.get(player.username)?.keys() ?? [])].at(-1) !== player.script.messages.at(-1)?.mark
  const ours = faults.filter((fault) => !isExcused(fault))
  for (const { player, text } of ours.slice(0, MAX_SHOWN)) console.log(`${player.username}: ${text}`)
  if (ours.length > 0) console.log(`${ours.length} devices ended otherwise than they said`)
  else if (faults.length === 0) print('Every device ended as it said.')
  else print(`${faults.length} devices ended otherwise, by what the broker lost.`)

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

/** When what was acknowledged, and never taken by the Worker, was acknowledged. */
const missingOf = (players: Player[], taken: Tap['taken']): number[] =>
  players.flatMap(({ username, acknowledged }) =>
    [...acknowledged].filter(([mark]) => !taken.get(username)?.has(mark)).map(([, at]) => at),
  )

/** By kill: what was acknowledged shortly before it, and after the one before. */
function attribute(missing: number[], kills: Kill[]): number[] {
  return kills.map(({ at }, n) => {
    const since = Math.max(at - BROKER_MEMORY_MS, kills[n - 1]?.at ?? 0)
    return missing.filter((when) => when <= at + ON_THE_WAY_MS && when > since + ON_THE_WAY_MS).length
  })
}
