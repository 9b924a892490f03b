/**
 * What `wrangler.toml` binds to the Worker and its objects. It names no class, so that this file stands below every
 * object: `taskStub`, `hubStub` and the like give an object's stub its type.
 */
export interface Env {
  DB: D1Database
  PACKAGES: R2Bucket
  UPGRADE_TASK: DurableObjectNamespace
  BRIDGE_HUB: DurableObjectNamespace
  PACKAGE_VERIFIER: DurableObjectNamespace
  WEBHOOK_SENDER: DurableObjectNamespace
  DEVICE_LIMIT: RateLimit
  DEVICE_SHARE_LIMIT: RateLimit
  DOWNLOAD_LIMIT: RateLimit
  WRONG_LINK_LIMIT: RateLimit
  BROKER_LIMIT: RateLimit
  BROKER_PEER_LIMIT: RateLimit
  KEY_FAILURE_LIMIT: RateLimit
  SIGN_IN_LIMIT: RateLimit
  DOWNLOAD_TTL_SECONDS: string
  R2_S3_ENDPOINT: string
  R2_BUCKET: string
  R2_ACCESS_KEY_ID: string
  R2_SECRET_ACCESS_KEY: string
  /** `worker`: devices download through the Worker, unless their product says otherwise; else straight from R2. */
  DOWNLOADS?: string
  /** Where devices reach the Worker; for its links. */
  PUBLIC_URL?: string
  /** Signs the Worker's links. A new one makes all earlier links dead. */
  DOWNLOAD_SIGNING_KEY?: string
  /** Signs the sessions of the console; without it nobody can sign in. */
  SESSION_SECRET?: string
  /** Sign-in by Cloudflare Access: `https://<team>.cloudflareaccess.com` and the application's audience tag. */
  ACCESS_TEAM?: string
  ACCESS_AUDIENCE?: string
  /** Who may sign in by Access as what, as JSON: `[{"who": "@example.com", "tenantId": "ten_…", "role": "viewer"}]`. */
  ACCESS_GRANTS?: string
  /** How many days outcomes and the objects of ended tasks stay, and entries of the audit log; 0: for ever. */
  RETENTION_DAYS?: string
  AUDIT_RETENTION_DAYS?: string
  /** How much the database may hold, in GB. */
  DATABASE_LIMIT_GB?: string
  /** `true`: webhooks may call http and private addresses. For local use only. */
  WEBHOOKS_ALLOW_PRIVATE?: string
}

/** R2's own limits on a presigned link: 1 s to 7 days. */
const MAX_DOWNLOAD_TTL_SECONDS = 7 * 24 * 3600
const DEFAULT_DOWNLOAD_TTL_SECONDS = 24 * 3600

/** Lifetime of a download link in seconds; a setting that is no number counts as the default. */
export function downloadTtlSeconds(env: Env): number {
  const seconds = Math.trunc(Number(env.DOWNLOAD_TTL_SECONDS))
  if (!Number.isFinite(seconds) || seconds < 1) return DEFAULT_DOWNLOAD_TTL_SECONDS
  return Math.min(seconds, MAX_DOWNLOAD_TTL_SECONDS)
}
