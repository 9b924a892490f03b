import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'

/** The directory of `wrangler.toml`. */
export const ROOT = join(import.meta.dirname, '..', '..')
const WRANGLER = join(
  dirname(createRequire(import.meta.url).resolve('wrangler/package.json')),
  'bin',
  'wrangler.js',
)
const CONFIG = ['--config', join(ROOT, 'wrangler.toml')]
const ENVIRONMENT = {
  WRANGLER_SEND_METRICS: 'false',
  WRANGLER_HIDE_BANNER: 'true',
  // Tracing every statement would halve the throughput and keep download links on disk.
  X_LOCAL_OBSERVABILITY: 'false',
}
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024

const run = promisify(execFile)

/** Runs the installed wrangler with this Node and returns its standard output. Throws an Error with its output. */
export async function runWrangler(args: string[]): Promise<string> {
  try {
    const { stdout } = await run(process.execPath, [WRANGLER, ...args, ...CONFIG], {
      env: { ...process.env, ...ENVIRONMENT },
      maxBuffer: MAX_OUTPUT_BYTES,
    })
    return stdout
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string }
    throw new Error(`wrangler ${args.slice(0, 3).join(' ')} failed:\n${stdout}${stderr}`)
  }
}

/**
 * Starts wrangler in a process group of its own. Ctrl-C reaches the whole foreground group, but the Worker must stay
 * until the bridge has posted its last batch.
 */
export const spawnWrangler = (args: string[], environment: Record<string, string> = {}): ChildProcess =>
  spawn(process.execPath, [WRANGLER, ...args], {
    detached: true,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, ...ENVIRONMENT, ...environment },
  })
