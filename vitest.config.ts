import { spawnSync } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { availableParallelism } from 'node:os'
import { cloudflareTest, readD1Migrations } from '@cloudflare/vitest-pool-workers'
import { configDefaults, defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

/** Databases of tests live as long as these: in memory, where the machine has such a place. */
function keepInMemory(): void {
  try {
    accessSync('/dev/shm', constants.W_OK)
    process.env.TMPDIR ??= '/dev/shm'
  } catch {
    // On the disk, then.
  }
}
keepInMemory()

/** How long the model test and the fuzz run play, and with which seed; `npm run test:model` sets some. */
const modelSettings = Object.fromEntries(
  ['MODEL_RUNS', 'MODEL_SEED', 'FUZZ_RUNS', 'FUZZ_SEED'].flatMap((name) =>
    process.env[name] ? [[name, process.env[name]]] : [],
  ),
)

/** Worker tests that look only at what they made, and leave the clock, the objects' classes and the tables as they were. */
const SHARED = [
  'test/worker/{audit,auth,console,device-api,devices,downloads,hub,packages,signing,webhooks}/**/*.test.ts',
  'test/worker/products/!(catalogue).test.ts',
  // The others ask a bridge that all tenants share.
  'test/worker/bridges/broker-limits.test.ts',
  'test/worker/tasks/{rollout,upgrade}/*.test.ts',
  'test/worker/tasks/{preview,reasons,warnings}.test.ts',
]

/** Tests for which OpenSSL signs: it stands for whoever makes the firmware. */
const SIGNED = [
  'test/unit/signing/**',
  'test/unit/{protocol/firmware,fleet/fleet}-signature.test.ts',
  'test/worker/signing/**',
  'test/browser/signing.test.ts',
  'test/e2e/system-signatures.test.ts',
]

/** What cannot be run here. */
function leftOut(): string[] {
  if (spawnSync('openssl', ['version']).status === 0) return configDefaults.exclude
  const text = 'No tests of signatures can be run here; missing: openssl'
  if (process.env.CI) throw new Error(text)
  console.warn(`${text}. SKIPPED.`)
  return [...configDefaults.exclude, ...SIGNED]
}
const exclude = leftOut()

/** What takes long starts early, and whoever mostly waits runs beside whoever computes. */
const FIRST = [
  '/model/',
  '/e2e/soak.',
  '/browser/pages.',
  '/browser/operate.',
  '/browser/upload.',
  '/browser/',
  '/e2e/',
]

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const found = FIRST.findIndex((part) => moduleId.includes(part))
      return found < 0 ? FIRST.length : found
    }
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b))
  }
}

/** For what hangs. How fast something is says nothing on a machine that has other things to do. */
const limits = { testTimeout: 300_000, hookTimeout: 300_000 }

/** Those in `wrangler.toml` are public, and refused at the host that the tests ask for. */
const secretsOfTests = {
  DOWNLOAD_SIGNING_KEY: 'signing-key-of-tests',
  SESSION_SECRET: 'session-secret-of-tests',
  R2_ACCESS_KEY_ID: 'access-key-of-tests',
  R2_SECRET_ACCESS_KEY: 'secret-key-of-tests',
}

const workerd = () =>
  cloudflareTest(async () => ({
    wrangler: { configPath: './wrangler.toml' },
    miniflare: {
      bindings: {
        MIGRATIONS: await readD1Migrations('migrations'),
        WEBHOOKS_ALLOW_PRIVATE: 'true',
        ...secretsOfTests,
        ...modelSettings,
      },
    },
  }))
const worker = {
  setupFiles: ['test/worker/setup.ts'],
  globalSetup: ['test/worker/webhooks/webhooks-receiver.ts', 'test/worker/signing/openssl-server.ts'],
  ...limits,
}

const wholeSystem = {
  isolate: false,
  globalSetup: ['test/e2e/prebuilt-worker.ts'],
  // Tracing every statement would halve the throughput.
  env: { X_LOCAL_OBSERVABILITY: 'false', X_LOCAL_EXPLORER: 'false', CLOUDFLARE_CF_FETCH_ENABLED: 'false' },
  ...limits,
}

// Three kinds of test: pure rules in Node, objects and D1 in workerd, the whole system from Node.
export default defineConfig({
  test: {
    // One more than there are cores: much of the time a test of the whole system waits.
    maxWorkers: availableParallelism() + 1,
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        test: { name: 'unit', include: ['test/unit/**/*.test.ts'], exclude, isolate: false, ...limits },
      },
      {
        plugins: [workerd()],
        test: {
          name: 'worker',
          include: ['test/worker/**/*.test.ts'],
          exclude: [...exclude, ...SHARED],
          ...worker,
        },
      },
      {
        plugins: [workerd()],
        test: {
          name: 'worker shared',
          include: SHARED,
          exclude,
          isolate: false,
          ...worker,
          setupFiles: ['test/worker/setup-shared.ts'],
        },
      },
      {
        test: { name: 'browser', include: ['test/browser/**/*.test.ts'], exclude, ...wholeSystem },
      },
      {
        test: { name: 'e2e', include: ['test/e2e/**/*.test.ts'], exclude, ...wholeSystem },
      },
    ],
  },
})
