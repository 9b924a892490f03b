import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { keepKeys, migrate, registerKeys } from '../../bridge/local/database.ts'
import { readSettings } from '../../bridge/local/settings.ts'
import { startWorker } from '../../bridge/local/worker.ts'
import { freePort } from '../e2e/mosquitto.ts'
import { type Api, createApi } from '../fleet/api-client.ts'
import type { Counters } from './meter.ts'

/** A local Worker with D1, R2 and objects in a temporary directory. */
export interface Local {
  url: string
  api: Api
  adminKey: string
  bridgeKey: string
  directory: string
  inspectorPort: number
  /** What Cloudflare would bill since the last `resetCounters`; only if `isMetered`. */
  counters(): Promise<Counters>
  resetCounters(): Promise<void>
  /** Resident memory of workerd in MiB. */
  memoryMiB(): number
  /** Bytes on disk: D1 and the objects. */
  stored(): { d1: number; objects: number }
  /** Processor time that workerd has used, in seconds. */
  cpuSeconds(): number
  close(): Promise<void>
}

const KIB = 1024
const TICKS_PER_SECOND = 100

/** `isMetered`: counts what Cloudflare would bill (`metered.ts`); the counting itself takes some time. */
export async function startLocal({ isMetered }: { isMetered: boolean }): Promise<Local> {
  const inspectorPort = await freePort()
  const directory = mkdtempSync(join(tmpdir(), 'bench-'))
  const settings = readSettings({ PORT: String(await freePort()), LOG_LEVEL: 'error' }, directory)
  const keys = keepKeys(settings.devVarsFile)
  await migrate(settings)
  await registerKeys(settings, keys, Date.now())
  const worker = await startWorker(settings, {
    ...(isMetered && { entry: join(import.meta.dirname, 'metered.ts') }),
    inspectorPort,
  })
  const clean = () => {
    worker.kill()
    rmSync(directory, { recursive: true, force: true, maxRetries: 5 })
  }
  process.on('exit', clean)
  const counted = async (method: string) =>
    (await (await fetch(`${settings.workerUrl}/bench/counters`, { method })).json()) as Counters
  return {
    url: settings.workerUrl,
    api: createApi({ url: settings.workerUrl, key: keys.adminKey }),
    ...keys,
    directory,
    inspectorPort,
    counters: () => counted('GET'),
    resetCounters: async () => void (await counted('DELETE')),
    memoryMiB: () => Math.max(...workerdPids().map((pid) => residentKiB(pid) / KIB)),
    stored: () => ({
      d1: bytesUnder(join(settings.stateDirectory, 'v3', 'd1')),
      objects: bytesUnder(join(settings.stateDirectory, 'v3', 'do')),
    }),
    cpuSeconds: () => workerdPids().reduce((sum, pid) => sum + cpuOf(pid), 0),
    async close() {
      worker.kill()
      await worker.ended
      process.off('exit', clean)
      clean()
    },
  }
}

/** The workerd processes that are descendants of this process. */
function workerdPids(): number[] {
  const parents = new Map<number, { parent: number; name: string }>()
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    try {
      const [, name, rest] = /^\d+ \((.*)\) (.*)$/s.exec(readFileSync(`/proc/${entry}/stat`, 'utf8'))!
      parents.set(Number(entry), { name: name!, parent: Number(rest!.split(' ')[1]) })
    } catch {
      // The process has ended meanwhile.
    }
  }
  const isOurs = (pid: number): boolean => {
    for (let at: number | undefined = pid; at !== undefined && at > 1; at = parents.get(at)?.parent) {
      if (at === process.pid) return true
    }
    return false
  }
  return [...parents].flatMap(([pid, { name }]) => (name === 'workerd' && isOurs(pid) ? [pid] : []))
}

const residentKiB = (pid: number) =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0)

function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

function bytesUnder(directory: string): number {
  let bytes = 0
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += statSync(join(entry.parentPath, entry.name)).size
  }
  return bytes
}

/** Signs in to the console and returns the cookie of the session. */
export async function signIn({ url, adminKey }: Local): Promise<string> {
  const response = await fetch(`${url}/sign-in`, {
    method: 'POST',
    headers: { origin: url },
    body: new URLSearchParams({ key: adminKey }),
    redirect: 'manual',
  })
  const [cookie] = response.headers.getSetCookie()
  if (!cookie) throw new Error(`the sign-in failed: ${response.status}`)
  return cookie.split(';')[0]!
}
