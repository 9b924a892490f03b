import type { D1Migration } from 'cloudflare:test'
import type { Env as WorkerEnv } from '../../src/common/env.ts'

declare global {
  namespace Cloudflare {
    interface Env extends WorkerEnv {
      MIGRATIONS: D1Migration[]
    }
    interface GlobalProps {
      mainModule: typeof import('../../src/index.ts')
    }
  }
}
