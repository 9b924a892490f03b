import type { Env } from '../common/env.ts'
import type { PackageRef } from './store.ts'

/** For a wake-up before a change, which counts where the process ends before the one after it. */
export const IN_CASE_MS = 30_000

/** The one place that knows how a package's verifier is addressed. */
export const packageVerifier = (env: Env, { packageId }: PackageRef) =>
  env.PACKAGE_VERIFIER.getByName(packageId)
