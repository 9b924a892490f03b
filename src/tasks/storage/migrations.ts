/**
 * Append-only: each entry runs once, in order. Each only expands: the release before goes on working on what the newest
 * entry made, since during a deploy, and after one that was taken back, its code opens the same objects.
 */
export const MIGRATIONS: readonly string[] = [
  `CREATE TABLE task (one INTEGER PRIMARY KEY CHECK (one = 1), spec TEXT NOT NULL, run TEXT NOT NULL);
   CREATE TABLE selection (page INTEGER PRIMARY KEY, ids TEXT NOT NULL);
   CREATE TABLE devices (
     device_id TEXT PRIMARY KEY, number TEXT NOT NULL, name TEXT, from_version TEXT,
     status TEXT NOT NULL, step INTEGER, description TEXT, updated_at INTEGER NOT NULL,
     -- A notice is owed, not before then; null also before its first turn, which the cursor finds.
     send_at INTEGER,
     -- A lease or a silence to look at.
     timer_at INTEGER,
     outbox INTEGER,
     state TEXT NOT NULL, events TEXT NOT NULL
   ) WITHOUT ROWID;
   CREATE INDEX devices_send ON devices (send_at) WHERE send_at IS NOT NULL;
   CREATE INDEX devices_timer ON devices (timer_at) WHERE timer_at IS NOT NULL;
   CREATE INDEX devices_outbox ON devices (outbox) WHERE outbox IS NOT NULL;`,
  `ALTER TABLE devices ADD COLUMN wave INTEGER;
   UPDATE task SET spec = json_remove(json_set(spec, '$.module', spec ->> '$.package.module',
     '$.targetVersion', spec ->> '$.package.version', '$.packages', json_array(json(spec -> '$.package'))), '$.package');
   CREATE TABLE failures (cause TEXT, description TEXT, count INTEGER NOT NULL, PRIMARY KEY (cause, description)) WITHOUT ROWID;
   CREATE TABLE samples (at INTEGER PRIMARY KEY, counts TEXT NOT NULL);
   CREATE TABLE events (number INTEGER PRIMARY KEY, event TEXT NOT NULL);
   CREATE TABLE newcomers (device_id TEXT PRIMARY KEY) WITHOUT ROWID;
   CREATE TABLE farewells (device_id TEXT PRIMARY KEY, notice_id INTEGER, try_at INTEGER NOT NULL, tries INTEGER NOT NULL) WITHOUT ROWID;`,
  'ALTER TABLE devices ADD COLUMN heard TEXT;',
  // Pages of devices instead of indexes, each of which cost a row or two whenever a device's own row was written.
  `CREATE TABLE outbox (page INTEGER PRIMARY KEY, ids TEXT NOT NULL);
   CREATE TABLE timers (rings_at INTEGER, page INTEGER, at INTEGER NOT NULL, ids TEXT NOT NULL,
     PRIMARY KEY (rings_at, page)) WITHOUT ROWID;
   INSERT INTO outbox SELECT 1, json_group_array(device_id) FROM devices WHERE outbox = 1 HAVING count(*) > 0;
   INSERT INTO timers SELECT timer_at, 1, timer_at, json_group_array(device_id) FROM devices
     WHERE timer_at IS NOT NULL GROUP BY timer_at;
   DROP INDEX devices_timer;
   DROP INDEX devices_outbox;
   CREATE TABLE offers (page INTEGER PRIMARY KEY, lease_until INTEGER NOT NULL, entries TEXT NOT NULL);`,
  // A table of its own: the release before inserts into `failures` without naming columns. It may be there already: the same
  // release writes its own, lower version.
  `CREATE TABLE IF NOT EXISTS failure_reasons (cause TEXT, description TEXT, reason TEXT NOT NULL,
     PRIMARY KEY (cause, description)) WITHOUT ROWID;`,
  // The waves from which the open one took devices: what it does not tell goes back there.
  `CREATE TABLE IF NOT EXISTS taken_from (device_id TEXT PRIMARY KEY, wave INTEGER NOT NULL) WITHOUT ROWID;`,
]

/** Has it a schema? */
export const isMigrated = (storage: DurableObjectStorage): boolean =>
  storage.kv.get('schemaVersion') !== undefined

/**
 * Brings the task's SQLite to the newest schema, or leaves it as it was and throws. A schema that is newer than the code
 * stays as it is, and so does its version.
 */
export function migrate(storage: DurableObjectStorage, migrations = MIGRATIONS): void {
  const done = storage.kv.get<number>('schemaVersion') ?? 0
  if (done >= migrations.length) return
  storage.transactionSync(() => {
    for (const statements of migrations.slice(done)) storage.sql.exec(statements)
    storage.kv.put('schemaVersion', migrations.length)
  })
}
