import { env, exports } from 'cloudflare:workers'
import { expect, it, onTestFinished, vi } from 'vitest'
import { newId } from '../../../src/common/ids.ts'
import type { SecretName } from '../../../src/common/published-secrets.ts'
import { createLinker } from '../../../src/links/linker.ts'
import { importTokenKey, makeToken } from '../../../src/links/token.ts'
import { makeLab } from '../lab.ts'
import { until } from '../lab-clock.ts'

/** The secrets in `wrangler.toml`. */
const PUBLISHED: [SecretName, string][] = [
  ['DOWNLOAD_SIGNING_KEY', 'local-signing-key'],
  ['SESSION_SECRET', 'local-session-secret'],
  ['R2_ACCESS_KEY_ID', 'local-access-key'],
  ['R2_SECRET_ACCESS_KEY', 'local-secret-key'],
]

/** Sets a variable until the test ends. */
function set(name: SecretName | 'PUBLIC_URL' | 'R2_S3_ENDPOINT', value: string): void {
  const before = env[name]!
  env[name] = value
  onTestFinished(() => {
    env[name] = before
  })
}

const visit = (url: string, init?: RequestInit) => exports.default.fetch(url, { redirect: 'manual', ...init })
const codeOf = async (response: Response) => ((await response.json()) as { code: string }).code

it.each(PUBLISHED)(
  'with the public %s the Worker refuses every request from another machine',
  async (name, value) => {
    set(name, value)
    const logged = vi.spyOn(console, 'error').mockImplementation(() => {})
    onTestFinished(() => logged.mockRestore())
    for (const path of [
      '/',
      '/sign-in',
      '/healthz',
      '/openapi.json',
      '/api/v1/products',
      '/device/v1/upgrade',
      '/bridge/v1/credentials',
      '/d/x',
    ]) {
      for (const host of [
        'https://ota.example.com',
        'http://192.0.2.7:8787',
        'http://127.0.0.1.example.com',
      ]) {
        const response = await visit(host + path)
        expect([path, response.status, response.headers.get('retry-after')]).toEqual([path, 503, '60'])
        const problem = await response.text()
        expect(problem).toContain(name)
        expect(problem).not.toContain(value)
      }
    }
    const signIn = await visit('https://ota.example.com/sign-in', {
      method: 'POST',
      body: new URLSearchParams({ key: 'x' }),
      headers: { origin: 'https://ota.example.com' },
    })
    expect(signIn.status).toBe(503)
  },
)

it('with a public secret the Worker serves its own machine, and only that', async () => {
  set('SESSION_SECRET', 'local-session-secret')
  for (const host of [
    'http://127.0.0.1:8787',
    'http://localhost:8787',
    'http://[::1]:8787',
    'https://localhost',
  ]) {
    expect((await visit(`${host}/healthz`)).status).toBe(200)
    expect((await visit(`${host}/healthz`, { headers: { 'cf-connecting-ip': '127.0.0.1' } })).status).toBe(
      200,
    )
    // Whoever asks from elsewhere may write any host.
    expect((await visit(`${host}/healthz`, { headers: { 'cf-connecting-ip': '192.0.2.9' } })).status).toBe(
      503,
    )
  }
  set('PUBLIC_URL', 'https://ota.example.com')
  expect((await visit('http://127.0.0.1:8787/healthz')).status).toBe(503)
})

it('a broker that asks a Worker with a public secret is told no', async () => {
  set('DOWNLOAD_SIGNING_KEY', 'local-signing-key')
  const answer = await visit('https://ota.example.com/broker/v1/auth', { method: 'POST', body: '{}' })
  expect([answer.status, await answer.json()]).toEqual([200, { result: 'deny' }])
})

it('a link that a stranger signed with the public key is refused by name, not looked up', async () => {
  const token = await makeToken(await importTokenKey('local-signing-key'), {
    taskId: newId('tsk'),
    deviceId: newId('dev'),
    packageIndex: 0,
    expiresAt: Date.now() + 10 * 365 * 86_400_000,
  })
  // With a key of its own the installation did not make it.
  expect(await codeOf(await visit(`https://ota.example.com/d/${token}`))).toBe('download.not_found')
  set('DOWNLOAD_SIGNING_KEY', 'local-signing-key')
  expect(await codeOf(await visit(`https://ota.example.com/d/${token}`))).toBe('secrets.published')
})

it('no link that leads beyond this machine is signed with a public secret', async () => {
  const request = {
    taskId: newId('tsk'),
    deviceId: newId('dev'),
    packageIndex: 0,
    storageKey: 'k',
    ttlSeconds: 60,
    now: Date.now(),
  }
  const link = (mode: 'r2' | 'worker', more: object) =>
    createLinker({ ...env, ...more })({ ...request, mode })
  const signing = { DOWNLOAD_SIGNING_KEY: 'local-signing-key' }
  await expect(link('worker', { ...signing, PUBLIC_URL: 'https://ota.example.com' })).rejects.toThrow(
    'DOWNLOAD_SIGNING_KEY still has its public value',
  )
  expect((await link('worker', { ...signing, PUBLIC_URL: 'http://127.0.0.1:8787' })).url).toContain('/d/')
  const bucket = { R2_ACCESS_KEY_ID: 'local-access-key', R2_SECRET_ACCESS_KEY: 'local-secret-key' }
  await expect(link('r2', { ...bucket, R2_S3_ENDPOINT: 'http://192.0.2.7:8787/s3' })).rejects.toThrow(
    'R2_ACCESS_KEY_ID still has its public value',
  )
  expect((await link('r2', { ...bucket, R2_S3_ENDPOINT: 'http://127.0.0.1:8787/s3' })).url).toContain(
    'X-Amz-Signature',
  )
})

it('a task sends nothing while no link can be made, and says why', async () => {
  const lab = await makeLab(1)
  set('R2_SECRET_ACCESS_KEY', '')
  const task = await lab.upgradeTo('v2')
  await until('the task waits', async () => /R2_SECRET_ACCESS_KEY/.test((await task.get()).waitingFor))
})

it('without an endpoint of the bucket every download goes through the Worker, and no product can choose otherwise', async () => {
  const lab = await makeLab(1, { downloads: 'r2' })
  set('R2_S3_ENDPOINT', '')
  await lab.upgradeTo('v2')
  const { notice } = await lab.push(lab.devices[0]!)
  expect(notice.params.url).toContain(`${env.PUBLIC_URL}/d/`)
  const { status, body } = await lab.admin.call('PATCH', `/api/v1/products/${lab.productId}`, {
    downloads: 'r2',
  })
  expect([status, body.code]).toEqual([409, 'downloads.not_set_up'])
})

it('a refusal for a public secret is logged with its name, at most once a minute', async () => {
  set('SESSION_SECRET', 'local-session-secret')
  const lines: string[] = []
  const logged = vi.spyOn(console, 'error').mockImplementation((line: string) => void lines.push(line))
  const clock = vi.spyOn(Date, 'now').mockReturnValue(Date.now() + 3_600_000)
  onTestFinished(() => {
    logged.mockRestore()
    clock.mockRestore()
  })
  for (let times = 0; times < 3; times++) await visit('https://ota.example.com/')
  expect(lines.map((line) => JSON.parse(line))).toEqual([
    { level: 'error', code: 'secrets.published', names: ['SESSION_SECRET'] },
  ])
})
