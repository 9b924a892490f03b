import type { Env } from '../common/env.ts'
import type { PackageRef } from './store.ts'

/** What others call of a `PackageVerifier`. */
export interface WakesForPackage {
  wake(ref: PackageRef, inMs?: number): Promise<void>
}

/** For a wake-up before a change, which counts where the process ends before the one after it. */
export const IN_CASE_MS = 30_000

/** A package's verifier: its name is the package's id. */
export const packageVerifier = (env: Env, { packageId }: PackageRef) =>
  env.PACKAGE_VERIFIER.getByName(packageId) as unknown as DurableObjectStub<
    WakesForPackage & Rpc.DurableObjectBranded
  >
