import { DurableObject } from 'cloudflare:workers'
import type { Env } from '../common/env.ts'
import { openDb } from '../db/client.ts'
import { removeLeftovers } from './leftovers.ts'
import { finishRecall } from './recall-package.ts'
import type { PackageRef } from './store.ts'
import type { WakesForPackage } from './verifier-stub.ts'
import { giveUpVerifying, verifyPackage } from './verify.ts'

/** A try that ended with the process counts too. */
const MAX_VERIFICATIONS = 5
/** Then only another wake-up helps: hours of trying, a few minutes apart. */
const MAX_TRIES = 60
const FIRST_RETRY_MS = 5_000
const MAX_RETRY_MS = 10 * 60_000

/**
 * One per package: does in its alarm what takes longer than a request may, verifying an upload, going on with a recall
 * that was cut off, and removing what the package no longer needs. A wake-up says only "look": what there is to do
 * stands in the database.
 */
export class PackageVerifier extends DurableObject<Env> implements WakesForPackage {
  /** Looks after the package in `inMs` milliseconds at the latest. The caller has seen that it is the tenant's. */
  async wake(ref: PackageRef, inMs = 0): Promise<void> {
    const { kv } = this.ctx.storage
    kv.put('ref', { tenantId: ref.tenantId, packageId: ref.packageId })
    kv.put('tries', 0)
    const at = Date.now() + inMs
    const planned = await this.ctx.storage.getAlarm()
    if (planned === null || planned > at) await this.ctx.storage.setAlarm(at)
  }

  override async alarm(): Promise<void> {
    const { storage } = this.ctx
    const ref = storage.kv.get<PackageRef>('ref')
    if (!ref) return
    const tries = (storage.kv.get<number>('tries') ?? 0) + 1
    storage.kv.put('tries', tries)
    await storage.sync()
    let retryInMs: number | undefined
    try {
      await this.#lookAfter(ref, tries)
    } catch (error) {
      report(ref, tries, error)
      if (tries < MAX_TRIES) retryInMs = Math.min(FIRST_RETRY_MS * 2 ** (tries - 1), MAX_RETRY_MS)
    } finally {
      await this.#rearm(retryInMs)
    }
  }

  async #lookAfter(ref: PackageRef, tries: number): Promise<void> {
    const db = openDb(this.env.DB)
    await finishRecall(this.env, db, ref)
    if (tries > MAX_VERIFICATIONS) await giveUpVerifying(db, this.env.PACKAGES, ref)
    else await verifyPackage(db, this.env.PACKAGES, ref)
    await removeLeftovers(db, this.env.PACKAGES, ref)
  }

  async #rearm(retryInMs: number | undefined): Promise<void> {
    const { storage } = this.ctx
    // Woken while at work: that alarm stands.
    if ((await storage.getAlarm()) !== null) return
    if (retryInMs !== undefined) return storage.setAlarm(Date.now() + retryInMs)
    await storage.deleteAll()
  }
}

/** A failed query's own message quotes its parameters; its cause says what went wrong. */
function report({ packageId }: PackageRef, tries: number, error: unknown): void {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error
  console.error(JSON.stringify({ code: 'package.alarm', packageId, tries, error: `${cause}` }))
}
