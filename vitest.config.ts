import { accessSync, constants } from 'node:fs'
import { cloudflareTest, readD1Migrations } from '@cloudflare/vitest-pool-workers'
import { defineConfig } from 'vitest/config'

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

/** How long the model test plays; `npm run test:model` sets them. */
const modelSettings = Object.fromEntries(
  ['MODEL_RUNS', 'MODEL_SEED'].flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])),
)

// Three kinds of test: pure rules in Node, objects and D1 in workerd, the whole system from Node.
export default defineConfig({
  test: {
    // All cores: most of the time one waits for the other.
    maxWorkers: '100%',
    projects: [
      {
        test: { name: 'unit', include: ['test/unit/**/*.test.ts'] },
      },
      {
        plugins: [
          cloudflareTest(async () => ({
            wrangler: { configPath: './wrangler.toml' },
            miniflare: {
              bindings: {
                MIGRATIONS: await readD1Migrations('migrations'),
                WEBHOOKS_ALLOW_PRIVATE: 'true',
                ...modelSettings,
              },
            },
          })),
        ],
        test: {
          name: 'worker',
          include: ['test/worker/**/*.test.ts'],
          setupFiles: ['test/worker/setup.ts'],
          globalSetup: ['test/worker/webhooks/webhooks-receiver.ts'],
          testTimeout: 20_000,
        },
      },
      {
        test: {
          name: 'browser',
          include: ['test/browser/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
    ],
  },
})
