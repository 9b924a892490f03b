import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestProject } from 'vitest/node'
import { runWrangler } from '../../bridge/local/wrangler.ts'

declare module 'vitest' {
  interface ProvidedContext {
    prebuiltWorkerDir: string
  }
}

/** Vitest's global setup: bundles the Worker once, since each start of it would do so again. */
export default async function setup({ provide }: TestProject): Promise<() => void> {
  const directory = mkdtempSync(join(tmpdir(), 'worker-'))
  await runWrangler(['deploy', '--dry-run', '--outdir', directory])
  provide('prebuiltWorkerDir', directory)
  return () => rmSync(directory, { recursive: true })
}
