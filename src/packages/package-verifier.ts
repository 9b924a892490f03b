import { DurableObject } from 'cloudflare:workers'
import type { Env } from '../common/env.ts'
import { errorFields, logError } from '../common/log.ts'
import { openDb } from '../db/client.ts'
import { removeLeftovers } from './leftovers.ts'
import { finishRecall } from './recall-package.ts'
import type { PackageRef } from './store.ts'
import type { PackageVerifierCalls } from './verifier-stub.ts'
import { giveUpVerifying, verifyPackage } from './verify.ts'

/** A try counts before it begins, so one that ended with the process counts too. */
const MAX_VERIFICATIONS = 5
/** Some nine hours, at most 10 minutes apart; after that only another wake-up starts it again. */
const MAX_TRIES = 60
const FIRST_RETRY_MS = 5_000
const MAX_RETRY_MS = 10 * 60_000

/**
 * One per package. Its alarm does what takes longer than a request may: it verifies an upload, finishes a recall that
 * was cut off, and removes what the package no longer needs. A wake-up carries no order: the alarm reads from the
 * database what there is to do.
 */
export class PackageVerifier extends DurableObject<Env> implements PackageVerifierCalls {
  /** Sets the alarm to `inMs` milliseconds from now at the latest. The caller has checked the tenant. */
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
      logError('package.alarm', { packageId: ref.packageId, tries, ...errorFields(error) })
      if (tries < MAX_TRIES) retryInMs = Math.min(FIRST_RETRY_MS * 2 ** (tries - 1), MAX_RETRY_MS)
    } finally {
      await this.#rearm(retryInMs)
    }
  }

  async #lookAfter(ref: PackageRef, tries: number): Promise<void> {
    const db = openDb(this.env.DB)
    await finishRecall(this.env, db, ref)
    if (tries > MAX_VERIFICATIONS) await giveUpVerifying(db, this.env.PACKAGES, ref)
    else await verifyPackage(this.env, db, ref)
    await removeLeftovers(db, this.env.PACKAGES, ref)
  }

  async #rearm(retryInMs: number | undefined): Promise<void> {
    const { storage } = this.ctx
    // A wake-up during the work has set an alarm of its own, which stands.
    if ((await storage.getAlarm()) !== null) return
    if (retryInMs !== undefined) return storage.setAlarm(Date.now() + retryInMs)
    await storage.deleteAll()
  }
}
