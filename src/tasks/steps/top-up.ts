import { readConnected } from '../database/connected.ts'
import { applyPlan } from '../effects/apply-plan.ts'
import { type BehindDevice, isAsLargeAsCanBe, readBehind, takeIntoWave } from '../effects/fill-wave.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { awaySince, isBridgeAway } from '../rules/rollout.ts'
import { openWave } from '../rules/task-run.ts'

const PAGE_SIZE = 500
/** So many pages are looked up in one step. */
const MAX_PAGES = 20
/** A device that asked so long ago will ask again. */
const ASKED_LATELY_MS = 2 * 3_600_000

/**
 * The notices of the open wave found nobody: it takes in the next devices that can be reached now. Returns whether there
 * may be more to do. `task.behind` remembers how far a long search has come.
 */
export async function topUpPage(task: TaskContext): Promise<boolean> {
  const { env, spec, run, now, save } = task
  if (applyPlan(task).topsUp === 0) return false
  const index = openWave(run)
  const from = task.behind?.wave === index ? task.behind.place : -1
  const behind = nextBehind(task, from)
  const wave = run.waves[index]!
  if (behind.length === 0 && from < 0) {
    isAsLargeAsCanBe(wave)
    save()
    return true
  }
  const reachable: string[] = []
  let looked = 0
  while (looked < behind.length && reachable.length < applyPlan(task).topsUp) {
    const page = behind.slice(looked, looked + PAGE_SIZE).map(({ deviceId }) => deviceId)
    const connected = await readConnected(env.DB, spec, page, wave.underWay > 0 && isBridgeAway(run, now()))
    const asking = askedLately(task, page)
    reachable.push(...page.filter((id) => connected.has(id) || asking.has(id)))
    looked += page.length
  }
  // The rollout may have moved on meanwhile, and devices may have ended.
  const { topsUp } = applyPlan(task)
  if (topsUp === 0 || openWave(run) !== index) return true
  const willing = stillBehind(task, new Set(reachable)).slice(0, topsUp)
  if (willing.length > 0) {
    task.behind = null
    takeIntoWave(task, willing)
    return true
  }
  const last = behind.at(-1)
  const hasMore = last !== undefined && behind.length === PAGE_SIZE * MAX_PAGES
  task.behind = hasMore ? { wave: index, place: last.place } : null
  if (!hasMore) {
    wave.foundNobodyAt = now()
    save()
  }
  return true
}

/** The next devices after this place that have not ended, as many as one step looks up, in the order of their places. */
function nextBehind(task: TaskContext, after: number): BehindDevice[] {
  const behind: BehindDevice[] = []
  for (const device of readBehind(task)) if (!device.hasEnded && device.place > after) behind.push(device)
  return behind.sort((a, b) => a.place - b.place).slice(0, PAGE_SIZE * MAX_PAGES)
}

/** Of these, the ones that asked over HTTPS: a broker that is away, or knows them to be disconnected, does not matter. */
function askedLately({ storage, run, now }: TaskContext, deviceIds: string[]): Set<string> {
  const since = Math.max(awaySince(run, now()) ?? 0, now() - ASKED_LATELY_MS)
  const rows = storage.readRowsOf(deviceIds)
  return new Set(
    rows.filter(({ upgrade }) => (upgrade.lastMessageAt ?? 0) > since).map(({ deviceId }) => deviceId),
  )
}

/** Of these, the ones that are still behind and have not ended, in the order of their places. */
const stillBehind = (task: TaskContext, ids: Set<string>): string[] =>
  ids.size === 0
    ? []
    : [...readBehind(task)]
        .filter(({ deviceId, hasEnded }) => !hasEnded && ids.has(deviceId))
        .sort((a, b) => a.place - b.place)
        .map(({ deviceId }) => deviceId)
