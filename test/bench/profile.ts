import { inspect } from './inspector.ts'

/** The Worker's processor time by function, from V8's sampling profiler. */
export interface Profile {
  /** Milliseconds in each function itself, the largest first. */
  self: { name: string; ms: number }[]
  /** Milliseconds in each function and all that it calls, the largest first. */
  total: { name: string; ms: number }[]
}

const INTERVAL_US = 200

interface ProfileNode {
  id: number
  callFrame: { functionName: string; url: string; lineNumber: number }
  children?: number[]
}

/** Profiles the Worker while `work` runs. */
export async function profiled<T>(inspectorPort: number, work: () => Promise<T>): Promise<[T, Profile]> {
  const { call, close } = await inspect(inspectorPort)
  await call('Profiler.enable')
  await call('Profiler.setSamplingInterval', { interval: INTERVAL_US })
  await call('Profiler.start')
  const result = await work()
  const { profile } = (await call('Profiler.stop')) as {
    profile: { nodes: ProfileNode[]; samples: number[]; timeDeltas: number[] }
  }
  close()
  return [result, sum(profile)]
}

function sum({
  nodes,
  samples,
  timeDeltas,
}: {
  nodes: ProfileNode[]
  samples: number[]
  timeDeltas: number[]
}): Profile {
  const own = new Map<number, number>()
  samples.forEach((node, index) => {
    // While the Worker is idle nothing is sampled; such a gap belongs to no function.
    own.set(node, (own.get(node) ?? 0) + Math.min(timeDeltas[index] ?? 0, 2 * INTERVAL_US) / 1000)
  })
  const byId = new Map(nodes.map((node) => [node.id, node]))
  const nameOf = ({ callFrame: { functionName, lineNumber } }: ProfileNode) =>
    functionName === '' ? `(anonymous, line ${lineNumber + 1})` : functionName
  const self = new Map<string, number>()
  const total = new Map<string, number>()
  // A recursive function counts once.
  const walk = (node: ProfileNode, above: Set<string>): number => {
    const name = nameOf(node)
    const isInner = above.has(name)
    if (!isInner) above.add(name)
    const mine = own.get(node.id) ?? 0
    let all = mine
    for (const child of node.children ?? []) all += walk(byId.get(child)!, above)
    self.set(name, (self.get(name) ?? 0) + mine)
    if (!isInner) {
      total.set(name, (total.get(name) ?? 0) + all)
      above.delete(name)
    }
    return all
  }
  if (nodes[0]) walk(nodes[0], new Set())
  const sorted = (map: Map<string, number>) =>
    [...map].map(([name, ms]) => ({ name, ms: Math.round(ms) })).sort((a, b) => b.ms - a.ms)
  return { self: sorted(self), total: sorted(total) }
}
