import { sql } from 'drizzle-orm'
import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from 'drizzle-orm/sqlite-core'
import type { Reason } from '../reasons/reason.ts'

// Times are milliseconds since 1970. Every table that a client can reach carries its tenant, and every query of a client names it; `device_modules` is
// reached only through its device.
// The tables marked "WITHOUT ROWID" get that by hand in their migration: drizzle-kit cannot generate it.

export const tenants = sqliteTable('tenants', {
  id: text().primaryKey(),
  name: text().notNull(),
  createdAt: integer().notNull(),
})

export const apiKeys = sqliteTable(
  'api_keys',
  {
    id: text().primaryKey(),
    /** Null: a key of the installation (role `root`, or a bridge that serves every tenant, `*`). */
    tenantId: text(),
    name: text().notNull(),
    role: text({ enum: ['root', 'admin', 'operator', 'viewer', 'bridge'] }).notNull(),
    /** The bridge that a key of role `bridge` names. */
    bridge: text(),
    /** SHA-256 of the key in hex; the key itself is shown once and kept nowhere. */
    hash: text().notNull(),
    createdAt: integer().notNull(),
    lastUsedAt: integer(),
    revokedAt: integer(),
  },
  (t) => [
    uniqueIndex('api_keys_hash').on(t.hash),
    index('api_keys_tenant').on(t.tenantId, t.id),
    index('api_keys_bridge').on(t.bridge, t.tenantId).where(sql`role = 'bridge'`),
  ],
)

export const idempotentAnswers = sqliteTable(
  'idempotent_answers',
  {
    /** The API key that made the request. */
    apiKeyId: text().notNull(),
    idempotencyKey: text().notNull(),
    /** SHA-256 of method, path and body: the same key with another request is a conflict. */
    requestHash: text().notNull(),
    /** Null while the first request is under way. */
    status: integer(),
    body: text(),
    /** When the request came first: a repeat that takes over from one that was cut off keeps it. */
    createdAt: integer().notNull(),
    /** When it was last taken up; 0 once it failed and may be taken up at once. Null in rows of earlier releases. */
    claimedAt: integer(),
  },
  (t) => [primaryKey({ columns: [t.apiKeyId, t.idempotencyKey] })],
)

/** The console's sessions by key, until they end or are signed out. WITHOUT ROWID. */
export const sessions = sqliteTable(
  'sessions',
  {
    /** SHA-256 of the id in the browser's cookie, in hex. */
    idHash: text().primaryKey(),
    keyId: text().notNull(),
    endsAt: integer().notNull(),
  },
  (t) => [index('sessions_ends_at').on(t.endsAt)],
)

export const products = sqliteTable(
  'products',
  {
    id: text().primaryKey(),
    tenantId: text().notNull(),
    name: text().notNull(),
    description: text(),
    bridge: text().notNull().default('default'),
    /** What the notice's `module` says for the whole firmware; null leaves it out (src/protocol/README.md#messages). */
    defaultModuleParam: text(),
    notifyCancel: integer({ mode: 'boolean' }).notNull().default(false),
    /** Whether its devices get presigned links or links through the Worker; null: as the installation says. */
    downloads: text({ enum: ['r2', 'worker'] }),
    /** The product's name in what signatures cover; null until it is set or the first key fixes it: `name` then. */
    signingName: text(),
    /** No package without a valid signature goes out (src/signing/README.md). */
    requireSignature: integer({ mode: 'boolean' }).notNull().default(false),
    frozenAt: integer(),
    createdAt: integer().notNull(),
  },
  (t) => [index('products_tenant').on(t.tenantId, t.id)],
)

/** The public keys of a product's firmware (src/signing/README.md). A row stays when its key is retired. */
export const signingKeys = sqliteTable(
  'signing_keys',
  {
    id: text().primaryKey(),
    tenantId: text().notNull(),
    productId: text().notNull(),
    name: text().notNull(),
    /** Ed25519, the raw 32 bytes in base64. */
    publicKey: text().notNull(),
    createdAt: integer().notNull(),
    retiredAt: integer(),
  },
  (t) => [
    uniqueIndex('signing_keys_in_force').on(t.productId, t.publicKey).where(sql`retired_at IS NULL`),
    index('signing_keys_product').on(t.productId, t.id),
  ],
)

export const devices = sqliteTable(
  'devices',
  {
    id: text().primaryKey(),
    tenantId: text().notNull(),
    productId: text().notNull(),
    number: text().notNull(),
    name: text(),
    /** The AccessToken, or the username of Basic credentials (src/protocol/README.md#identity). */
    accessToken: text().notNull(),
    /** Set for Basic credentials only: `pbkdf2$<iterations>$<salt>$<hash>`. */
    passwordHash: text(),
    tags: text({ mode: 'json' }).$type<string[]>().notNull().default([]),
    enabled: integer({ mode: 'boolean' }).notNull().default(true),
    /** The topic family last used (src/protocol/README.md#topics); null until known. */
    topicFamily: text({ enum: ['device', 'devices'] }),
    /** Null if no broker has reported it. */
    online: integer({ mode: 'boolean' }),
    /** Written at most once an hour. */
    lastSeenAt: integer(),
    createdAt: integer().notNull(),
  },
  (t) => [
    uniqueIndex('devices_access_token').on(t.accessToken),
    uniqueIndex('devices_product_number').on(t.productId, t.number),
    index('devices_tenant').on(t.tenantId, t.id),
    index('devices_product').on(t.productId, t.id),
    // A number can be a topic only if it is unique on its bridge (src/protocol/README.md#topics).
    index('devices_number').on(t.number),
  ],
)

/**
 * The usernames that changed, one row each, for the bridges' credentials feed. Only triggers on `devices` write it
 * (migrations/0008_belonging.sql), and the heirs of a number (`devices/store.ts`). A later change takes a new `seq`, higher than all before; no row is ever deleted,
 * so no `seq` is given twice. WITHOUT ROWID: a new device writes 2 rows; with a rowid and AUTOINCREMENT it would be 3.
 */
export const credentialChanges = sqliteTable(
  'credential_changes',
  {
    accessToken: text().primaryKey(),
    seq: integer().notNull(),
    /** Whose username it is, or was last, and whose it was before; null if that is not known. */
    tenantId: text(),
    formerTenantId: text(),
  },
  (t) => [uniqueIndex('credential_changes_seq').on(t.seq)],
)

/** The version that a device reported last, per module. WITHOUT ROWID. */
export const deviceModules = sqliteTable(
  'device_modules',
  {
    deviceId: text().notNull(),
    module: text().notNull(),
    version: text().notNull(),
    reportedAt: integer().notNull(),
    /** The device's product when it reported; empty after a move. Null in rows of earlier releases: its present one. */
    productId: text(),
    /** Set when the device rolled back ("reported 100 %, runs v1.0.1"), until it reports another version. */
    rolledBack: text(),
    /** Hub and lease of the bridge that brought the report: under an older lease of the hub a report is older. */
    hub: text(),
    lease: integer(),
  },
  (t) => [
    primaryKey({ columns: [t.deviceId, t.module] }),
    index('device_modules_rolled_back').on(t.deviceId).where(sql`rolled_back IS NOT NULL`),
  ],
)

export interface Rejection {
  at: number
  topic: string
  /** The first 1 KiB. */
  payload: string
  /** In the API's English; `code` is its reason's. Absent in what an earlier release kept. */
  reason: string
  code?: string
  /** Tells a repeated message of a bridge from a new one. */
  key?: string
}

/** Messages that could not be read: the last 20 per device, written at most once a minute. WITHOUT ROWID. */
export const rejections = sqliteTable(
  'rejections',
  {
    deviceId: text().primaryKey(),
    tenantId: text().notNull(),
    total: integer().notNull(),
    updatedAt: integer().notNull(),
    items: text({ mode: 'json' }).$type<Rejection[]>().notNull(),
  },
  (t) => [index('rejections_tenant').on(t.tenantId, t.updatedAt)],
)

export const packages = sqliteTable(
  'packages',
  {
    id: text().primaryKey(),
    tenantId: text().notNull(),
    productId: text().notNull(),
    name: text().notNull(),
    description: text(),
    module: text().notNull(),
    version: text().notNull(),
    kind: text({ enum: ['full', 'diff'] }).notNull(),
    /** The version that a diff starts from; empty for a full package, so that the unique index covers it. */
    sourceVersion: text().notNull().default(''),
    signMethod: text({ enum: ['SHA256', 'MD5'] }).notNull(),
    extData: text({ mode: 'json' }).$type<Record<string, unknown>>(),
    state: text({ enum: ['draft', 'verifying', 'ready', 'recalled'] }).notNull(),
    /** Why the last upload did not become the package's file. */
    error: text(),
    size: integer(),
    sign: text(),
    /** The file's SHA-256, whatever `signMethod` is; null for files of earlier releases with MD5. */
    sha256: text(),
    /** Devices refuse a signed image whose counter is lower than that of what they run. */
    securityCounter: integer().notNull().default(0),
    /** Ed25519 in base64, of the text that src/protocol/README.md#signed-firmware defines. */
    signature: text(),
    signatureKeyId: text(),
    /** When the file was complete and the signature fitted it. */
    signatureVerifiedAt: integer(),
    filename: text(),
    /** The file's own key in R2, never used again for another file. */
    storageKey: text(),
    /** When it was recalled: since then its file is gone, and no task sends it. */
    recalledAt: integer(),
    createdAt: integer().notNull(),
  },
  (t) => [
    // A recalled package leaves its version to another.
    uniqueIndex('packages_version')
      .on(t.productId, t.module, t.version, t.kind, t.sourceVersion)
      .where(sql`state <> 'recalled'`),
    // For queries that also mean recalled ones.
    index('packages_product').on(t.productId, t.module),
    index('packages_tenant').on(t.tenantId, t.id),
  ],
)

export const uploads = sqliteTable(
  'uploads',
  {
    id: text().primaryKey(),
    tenantId: text().notNull(),
    packageId: text().notNull(),
    /** R2's own id of the multipart upload. */
    r2UploadId: text().notNull(),
    storageKey: text().notNull(),
    filename: text(),
    size: integer().notNull(),
    partSize: integer().notNull(),
    /** The file's digest according to the client, lower-case hex. */
    sha256: text(),
    state: text({ enum: ['open', 'completed'] }).notNull(),
    createdAt: integer().notNull(),
  },
  (t) => [index('uploads_package').on(t.packageId)],
)

/** WITHOUT ROWID. */
export const uploadParts = sqliteTable(
  'upload_parts',
  {
    uploadId: text().notNull(),
    part: integer().notNull(),
    etag: text().notNull(),
    size: integer().notNull(),
  },
  (t) => [primaryKey({ columns: [t.uploadId, t.part] })],
)

/** A task as lists and look-ups need it; its object owns the rest and writes this row. */
export const tasks = sqliteTable(
  'tasks',
  {
    id: text().primaryKey(),
    tenantId: text().notNull(),
    productId: text().notNull(),
    packageIds: text({ mode: 'json' }).$type<string[]>().notNull(),
    module: text().notNull(),
    targetVersion: text().notNull(),
    name: text().notNull(),
    description: text(),
    /** Of a list of devices only the length: the list itself is in the task's object. */
    selection: text({ mode: 'json' }).notNull(),
    policy: text({ mode: 'json' }).notNull(),
    status: text({ enum: ['scheduled', 'running', 'paused', 'finished', 'cancelled'] }).notNull(),
    /** In the API's English, for releases that know no `pausedBecause`. */
    pausedReason: text(),
    pausedBecause: text({ mode: 'json' }).$type<Reason>(),
    startAt: integer().notNull(),
    endAt: integer(),
    /** Orders tasks by newness: the later created is newer (src/protocol/README.md#slots). */
    rank: text().notNull(),
    /** As of the last write-back; the object has the current ones. */
    counts: text({ mode: 'json' }).notNull(),
    createdAt: integer().notNull(),
    finishedAt: integer(),
    /** What its object held at the last write-back, in bytes; null in rows of earlier releases. */
    objectBytes: integer(),
    /** Since then its object is gone, and R2 has its summary and report (src/retention/README.md). */
    archivedAt: integer(),
  },
  (t) => [
    index('tasks_tenant').on(t.tenantId, t.id),
    index('tasks_product_status').on(t.productId, t.status),
  ],
)

/**
 * Tasks that were deleted, so that nothing makes one again that was under way when it went, and a repeated deletion is
 * known. WITHOUT ROWID.
 */
export const deletedTasks = sqliteTable('deleted_tasks', {
  id: text().primaryKey(),
  tenantId: text().notNull(),
  deletedAt: integer().notNull(),
})

/** How far each sweep of old rows has come, and what was said once (src/retention/README.md). WITHOUT ROWID. */
export const sweeps = sqliteTable('sweeps', {
  name: text().primaryKey(),
  /** The last key that was looked at; empty: from the start. */
  cursor: text().notNull(),
})

/** The slot: at most one active upgrade per device and module (src/protocol/README.md#slots). WITHOUT ROWID. */
export const upgrades = sqliteTable(
  'upgrades',
  {
    deviceId: text().notNull(),
    module: text().notNull(),
    tenantId: text().notNull(),
    /** The task that holds the slot or, if it is inactive, held it last; empty if that one was deleted. */
    taskId: text().notNull(),
    rank: text().notNull(),
    active: integer({ mode: 'boolean' }).notNull(),
    targetVersion: text().notNull(),
    /** Notice ids grow for a device, whichever task sends (src/protocol/README.md#messages). */
    lastNoticeId: integer().notNull(),
    /** The newest task that brought this device to Success: no older task sends to it again. */
    succeededTaskId: text(),
    succeededRank: text(),
    /**
     * A version whose notice went out since the last Success and whose upgrade ended without Success or a
     * device-reported Failure; `*` for several. It makes a task for another version *unsure*
     * (src/protocol/README.md#certainty).
     */
    doubtVersion: text(),
    /** A Success by 100 % whose version the device has not reported yet. */
    assumedVersion: text(),
    /**
     * An upgrade ended, and what the device runs is not certain until it reports (src/protocol/README.md#certainty). 2: it
     * reported after the last notice of that upgrade, on which it may still act; 1: it did not even that.
     */
    isUnknown: integer(),
    /** The newest task that waits for the slot. */
    waitingTaskId: text(),
    waitingRank: text(),
  },
  (t) => [primaryKey({ columns: [t.deviceId, t.module] })],
)

/** How a device ended in a task; one row each, overwritten when it is retried. WITHOUT ROWID. */
export const outcomes = sqliteTable(
  'outcomes',
  {
    deviceId: text().notNull(),
    taskId: text().notNull(),
    tenantId: text().notNull(),
    module: text().notNull(),
    fromVersion: text(),
    targetVersion: text().notNull(),
    status: text({ enum: ['success', 'failure', 'cancelled'] }).notNull(),
    /** The device's own words, or `reason` in the API's English. */
    description: text(),
    reason: text({ mode: 'json' }).$type<Reason>(),
    rolledBack: integer({ mode: 'boolean' }).notNull(),
    attempt: integer().notNull(),
    finishedAt: integer().notNull(),
  },
  (t) => [primaryKey({ columns: [t.deviceId, t.taskId] })],
)

/** Who changed what, when, from where. Append-only, but for old entries (src/retention/README.md). */
export const auditEntries = sqliteTable(
  'audit_entries',
  {
    id: text().primaryKey(),
    /** Null: a change of the installation, by a root key. */
    tenantId: text(),
    at: integer().notNull(),
    keyId: text().notNull(),
    keyName: text().notNull(),
    role: text().notNull(),
    /** What was done, such as `task.pause`. */
    action: text().notNull(),
    /** The id of what it was done to; null for a list of things. */
    target: text(),
    /** The client's address. */
    address: text(),
    /** What was asked for, without secrets. */
    detail: text({ mode: 'json' }).$type<Record<string, unknown>>(),
  },
  (t) => [index('audit_entries_tenant').on(t.tenantId, t.id)],
)

/** The addresses to which a tenant's events go; deliveries are in the webhook's own object. */
export const webhooks = sqliteTable(
  'webhooks',
  {
    id: text().primaryKey(),
    tenantId: text().notNull(),
    url: text().notNull(),
    events: text({ mode: 'json' }).$type<string[]>().notNull(),
    /** Signs the deliveries, so it is stored unhashed; only the answer to its creation shows it. */
    secret: text().notNull(),
    createdAt: integer().notNull(),
  },
  (t) => [index('webhooks_tenant').on(t.tenantId, t.id)],
)
