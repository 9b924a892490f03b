import type { Env } from '../common/env.ts'
import { repeating } from '../common/retries.ts'
import type { PackageRef } from './store.ts'

/** The calls that others make to a `PackageVerifier`. */
export interface PackageVerifierCalls {
  wake(ref: PackageRef, inMs?: number): Promise<void>
}

/** Delay of a wake-up that is set before a change, in case the process ends before the wake-up that follows it. */
export const BACKUP_WAKE_MS = 30_000

/** The stub of a package's verifier; the object's name is the package's id. */
export const packageVerifier = (env: Env, { packageId }: PackageRef): VerifierStub =>
  repeating(() => env.PACKAGE_VERIFIER.getByName(packageId) as unknown as VerifierStub, ['wake'])

type VerifierStub = DurableObjectStub<PackageVerifierCalls & Rpc.DurableObjectBranded>
