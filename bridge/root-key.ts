import { execFileSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { hashKey, newKey } from '../src/auth/key.ts'
import { newId } from '../src/common/ids.ts'

// Makes a root key and shows it once: `npm run root-key`, with `-- --remote` for the deployed database. Whoever may
// run wrangler on the account may do this; there is no way over HTTP. Needs the migrations applied.

const { values } = parseArgs({
  options: { remote: { type: 'boolean', default: false }, name: { type: 'string', default: 'root' } },
})

const key = newKey()
const name = values.name.replaceAll("'", "''")
const statement = `INSERT INTO api_keys (id, tenant_id, name, role, hash, created_at)
  VALUES ('${newId('key')}', NULL, '${name}', 'root', '${await hashKey(key)}', ${Date.now()})`

try {
  execFileSync(
    'npx',
    [
      'wrangler',
      'd1',
      'execute',
      'DB',
      values.remote ? '--remote' : '--local',
      '--yes',
      '--command',
      statement,
    ],
    { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8' },
  )
} catch (error) {
  const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string }
  console.error(`${stdout}${stderr}\nThe key was not made. Are the migrations applied?`)
  process.exit(1)
}
console.log(`Root key (shown this once): ${key}`)
