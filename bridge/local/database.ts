import { z } from 'zod'
import { hashKey, isKey, newKey } from '../../src/auth/key.ts'
import { namedId } from '../../src/common/ids.ts'
import { readDevVars, writeDevVars } from './dev-vars.ts'
import type { LocalSettings } from './settings.ts'
import { runWrangler } from './wrangler.ts'

/** The API keys of the local installation, in plain text as clients use them. */
export interface LocalKeys {
  adminKey: string
  bridgeKey: string
}

const LOCAL_TENANT = 'Local'
const LOCAL_BRIDGE = 'default'

const local = ({ stateDirectory }: LocalSettings) => ['--local', '--persist-to', stateDirectory]

/** Brings the local database to the newest schema. */
export async function migrate(settings: LocalSettings): Promise<void> {
  await runWrangler(['d1', 'migrations', 'apply', 'DB', ...local(settings)])
}

/** Returns the keys in `.dev.vars`, and makes those that are missing. */
export function keepKeys(file: string): LocalKeys {
  const { ADMIN_KEY = '', BRIDGE_KEY = '' } = readDevVars(file)
  const missing = {
    ...(!isKey(ADMIN_KEY) && { ADMIN_KEY: newKey() }),
    ...(!isKey(BRIDGE_KEY) && { BRIDGE_KEY: newKey() }),
  }
  writeDevVars(file, missing)
  const keys = { ADMIN_KEY, BRIDGE_KEY, ...missing }
  return { adminKey: keys.ADMIN_KEY, bridgeKey: keys.BRIDGE_KEY }
}

/**
 * Writes the keys into the database: an admin key of the tenant "Local" and a bridge key of the installation. It runs
 * at every start, so that a lost database or `.dev.vars` is restored. Throws if a key was revoked.
 */
export async function registerKeys(settings: LocalSettings, keys: LocalKeys, now: number): Promise<void> {
  const tenantId = await namedId('ten', LOCAL_TENANT)
  const admin = await hashKey(keys.adminKey)
  const bridge = await hashKey(keys.bridgeKey)
  // All values are hexadecimal digits, ids or constants, so nothing needs quoting.
  const statements = [
    `INSERT INTO tenants (id, name, created_at) VALUES ('${tenantId}', '${LOCAL_TENANT}', ${now})`,
    `INSERT INTO api_keys (id, tenant_id, name, role, hash, created_at)
      VALUES ('${await namedId('key', admin)}', '${tenantId}', 'npm start', 'admin', '${admin}', ${now})`,
    `INSERT INTO api_keys (id, name, role, bridge, hash, created_at)
      VALUES ('${await namedId('key', bridge)}', 'npm start', 'bridge', '${LOCAL_BRIDGE}', '${bridge}', ${now})`,
  ].map((statement) => `${statement} ON CONFLICT DO NOTHING`)
  const check = `SELECT role FROM api_keys WHERE revoked_at IS NULL AND (
    (hash = '${admin}' AND role = 'admin') OR (hash = '${bridge}' AND role = 'bridge'))`
  const command = [...statements, check].join(';\n')
  const answer = await runWrangler([
    'd1',
    'execute',
    'DB',
    ...local(settings),
    '--json',
    '--yes',
    '--command',
    command,
  ])
  const good = rolesOf
    .parse(JSON.parse(answer))
    .at(-1)!
    .results.map(({ role }) => role)
  for (const [role, name] of [
    ['admin', 'ADMIN_KEY'],
    ['bridge', 'BRIDGE_KEY'],
  ] as const) {
    if (good.includes(role)) continue
    throw new Error(`${name} in .dev.vars was revoked. Delete its line, and the next start makes a new key.`)
  }
}

const rolesOf = z.array(z.object({ results: z.array(z.object({ role: z.string().optional() })) })).min(1)
