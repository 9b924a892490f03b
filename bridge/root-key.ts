import { execFileSync } from 'node:child_process'
import { parseArgs } from 'node:util'
import { hashKey, newKey } from '../src/auth/key.ts'
import { newId } from '../src/common/ids.ts'

// `npm run root-key` makes a root key and prints it once; `-- --remote` makes it in the deployed database. It needs
// wrangler's access to the account and an up-to-date schema. There is no way to make a root key over HTTP.

// `--local` may create the database here.
process.umask(0o077)

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
