import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { firmwareText } from '../../firmware-text.ts'
import { isSignatureOf, newFile, newSigningKey, openssl } from '../../openssl.ts'

// `npm run sign` as a process, checked by OpenSSL.

const FILE = newFile('firmware.bin')
const CONTENT = Buffer.from('a firmware file')
writeFileSync(FILE, CONTENT)
const maker = newSigningKey()
chmodSync(maker.pem, 0o600)

interface Run {
  code: number
  stdout: string
  stderr: string
  /** `name: value` lines of the output. */
  said: Record<string, string>
}

const run = (args: string[], env: Record<string, string> = {}): Promise<Run> =>
  new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      ['bridge/sign.ts', ...args],
      { env: { PATH: process.env.PATH, ...env } },
      (error, stdout, stderr) => {
        const lines = stdout.split('\n').flatMap((line) => {
          const [, name, value] = /^(\w+): (.*)$/.exec(line) ?? []
          return name === undefined ? [] : [[name, value!] as const]
        })
        resolve({ code: Number(error?.code ?? 0), stdout, stderr, said: Object.fromEntries(lines) })
      },
    )
    child.stdin!.end()
  })

const sign = (...more: string[]) =>
  run([FILE, '--key', maker.pem, '--product', 'lamp', '--version', 'v2', ...more])

describe('offline', () => {
  it('prints a signature that OpenSSL accepts, the public key, size and SHA-256', async () => {
    const { code, said, stderr } = await sign()
    expect([code, stderr]).toEqual([0, ''])
    expect(said).toEqual({
      publicKey: maker.publicKey,
      signature: expect.any(String),
      size: String(CONTENT.length),
      sha256: createHash('sha256').update(CONTENT).digest('hex'),
    })
    expect(isSignatureOf(maker.pem, firmwareText({ version: 'v2', file: CONTENT }), said.signature!)).toBe(
      true,
    )
  })

  it('signs module, source version and counter', async () => {
    const { said } = await sign('--module', 'MCU', '--source', 'v1', '--counter', '9007199254740991')
    const fields = { version: 'v2', module: 'MCU', source: 'v1', counter: 2 ** 53 - 1, file: CONTENT }
    expect(isSignatureOf(maker.pem, firmwareText(fields), said.signature!)).toBe(true)
  })

  it('a file is read in pieces', async () => {
    const large = newFile('large.bin')
    const file = Buffer.alloc(5_000_000, 'firmware')
    writeFileSync(large, file)
    const { said } = await run([large, '--key', maker.pem, '--product', 'lamp', '--version', 'v2'])
    expect(isSignatureOf(maker.pem, firmwareText({ version: 'v2', file }), said.signature!)).toBe(true)
  })

  it('the signature stays the same, and the private key is in no output', async () => {
    const [first, second] = [await sign(), await sign()]
    expect(second.stdout).toBe(first.stdout)
    const secret = readFileSync(maker.pem, 'utf8').split('\n')[1]!
    expect(first.stdout + first.stderr).not.toContain(secret)
  })

  it.each([0o640, 0o604, 0o644, 0o620])(
    'a key file that others can read or change (%o) is warned about',
    async (mode) => {
      const { pem } = newSigningKey()
      chmodSync(pem, mode)
      const { code, stderr, said } = await run([FILE, '--key', pem, '--product', 'lamp', '--version', 'v2'])
      expect(stderr).toMatch(/^Warning: .*chmod 600/)
      expect([code, said.signature]).toEqual([0, expect.any(String)])
    },
  )

  it('an encrypted key takes the passphrase of SIGN_PASSPHRASE, and is refused without', async () => {
    const pem = newFile('encrypted.pem')
    openssl('pkey', '-in', maker.pem, '-aes256', '-passout', 'pass:open sesame', '-out', pem)
    chmodSync(pem, 0o600)
    const args = [FILE, '--key', pem, '--product', 'lamp', '--version', 'v2']
    expect((await run(args, { SIGN_PASSPHRASE: 'open sesame' })).said.publicKey).toBe(maker.publicKey)
    for (const passphrase of ['wrong', '', undefined]) {
      const env: Record<string, string> = passphrase === undefined ? {} : { SIGN_PASSPHRASE: passphrase }
      const { code, stdout, stderr } = await run(args, env)
      expect([code, stdout]).toEqual([1, ''])
      expect(stderr).toMatch(/holds no private key that can be read/)
    }
  })

  it('another kind of key, a public key and a text are refused', async () => {
    const [rsa, publicPem, text] = [newFile('rsa.pem'), newFile('public.pem'), newFile('text.pem')]
    openssl('genpkey', '-algorithm', 'rsa', '-out', rsa)
    openssl('pkey', '-in', maker.pem, '-pubout', '-out', publicPem)
    writeFileSync(text, 'no key')
    for (const pem of [rsa, publicPem, text]) {
      const { code, stdout, stderr } = await run([FILE, '--key', pem, '--product', 'lamp', '--version', 'v2'])
      expect([code, stdout]).toEqual([1, ''])
      expect(stderr).toContain(pem)
    }
  })

  it.each([
    ['no file', ['--key', 'k', '--product', 'p', '--version', 'v'], /Name one file/],
    ['two files', ['a', 'b', '--key', 'k', '--product', 'p', '--version', 'v'], /Name one file/],
    ['no key', ['a', '--product', 'p', '--version', 'v'], /--key is missing/],
    ['no product', ['a', '--key', 'k', '--version', 'v'], /--product is missing/],
    ['no version', ['a', '--key', 'k', '--product', 'p'], /--version is missing/],
    [
      'a blank at the end',
      ['a', '--key', 'k', '--product', 'p ', '--version', 'v'],
      /--product begins or ends/,
    ],
    [
      'an empty source',
      ['a', '--key', 'k', '--product', 'p', '--version', 'v', '--source', ''],
      /--source is missing/,
    ],
    [
      'a counter below 0',
      ['a', '--key', 'k', '--product', 'p', '--version', 'v', '--counter=-1'],
      /--counter/,
    ],
    [
      'half a counter',
      ['a', '--key', 'k', '--product', 'p', '--version', 'v', '--counter', '0.5'],
      /--counter/,
    ],
    [
      'a counter that is too large',
      ['a', '--key', 'k', '--product', 'p', '--version', 'v', '--counter', '9007199254740992'],
      /--counter/,
    ],
    [
      'http to another machine',
      ['a', '--key', 'k', '--product', 'p', '--version', 'v', '--upload', 'http://ota.example'],
      /https/,
    ],
    [
      'an API key as an argument',
      ['a', '--key', 'k', '--product', 'p', '--version', 'v', '--api-key', 'secret'],
      /--api-key/,
    ],
  ])('%s is refused, with the option at fault', async (_what, args, says) => {
    const { code, stdout, stderr } = await run(args)
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toMatch(says)
  })

  it('a version of two lines and an empty file are refused', async () => {
    expect((await sign('--source', 'a\nb')).code).toBe(1)
    const empty = newFile('empty.bin')
    writeFileSync(empty, '')
    const { code, stderr } = await run([empty, '--key', maker.pem, '--product', 'lamp', '--version', 'v2'])
    expect([code, stderr]).toEqual([1, `${empty} is empty.\n`])
  })

  it('--upload without EDGE_OTA_KEY says so', async () => {
    const { code, stdout, stderr } = await sign('--upload', 'https://ota.example')
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toContain('EDGE_OTA_KEY')
  })
})

describe('--upload', () => {
  const requests: { call: string; key: string | undefined; body: Buffer }[] = []
  let products: { id: string; signingName: string }[] = []
  let keys: { id: string; publicKey: string; retiredAt: string | null }[] = []
  let packages: object[] = []

  const server = createServer(async (request, response) => {
    const body = await buffer(request)
    const call = `${request.method} ${request.url!.split('?')[0]}`
    requests.push({ call, key: request.headers.authorization, body })
    const [status, answer] = reply(call, request, body)
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer))
  })
  const list = (items: object[]) => [200, { items, nextCursor: null }] as const
  function reply(call: string, _request: IncomingMessage, body: Buffer): readonly [number, object] {
    if (call === 'GET /api/v1/products') return list(products)
    if (call === 'GET /api/v1/products/prd_1/signing-keys') return list(keys)
    if (call === 'GET /api/v1/packages') return list(packages)
    if (call === 'POST /api/v1/packages') {
      if (packages.length > 0) return [409, { code: 'package.exists', detail: 'There is one.' }]
      return [201, { ...JSON.parse(body.toString()), id: 'pkg_1', state: 'draft' }]
    }
    return [200, { id: 'pkg_1', state: call.endsWith('/file') ? 'ready' : 'draft' }]
  }
  let url = ''
  beforeAll(async () => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterAll(() => void server.close())

  const upload = (...more: string[]) => {
    requests.length = 0
    const args = [FILE, '--key', maker.pem, '--product', 'lamp', '--version', 'v2', '--upload', url, ...more]
    return run(args, { EDGE_OTA_KEY: 'the key' })
  }
  const known = () => {
    products = [
      { id: 'prd_0', signingName: 'heater' },
      { id: 'prd_1', signingName: 'lamp' },
    ]
    keys = [
      { id: 'sgk_old', publicKey: maker.publicKey, retiredAt: '2026-01-01T00:00:00Z' },
      { id: 'sgk_1', publicKey: maker.publicKey, retiredAt: null },
    ]
    packages = []
  }

  it('makes the package with its signature and uploads the file, with the API key of the environment', async () => {
    known()
    const { code, said, stderr } = await upload('--counter', '3')
    expect([code, stderr]).toEqual([0, ''])
    expect(said).toMatchObject({ packageId: 'pkg_1', keyId: 'sgk_1' })
    expect(new Set(requests.map(({ key }) => key))).toEqual(new Set(['Bearer the key']))
    const made = requests.find(({ call }) => call === 'POST /api/v1/packages')!
    expect(JSON.parse(made.body.toString())).toEqual({
      productId: 'prd_1',
      name: 'lamp v2',
      version: 'v2',
      module: 'default',
      kind: 'full',
      sourceVersion: null,
      signMethod: 'SHA256',
      securityCounter: 3,
      signature: { keyId: 'sgk_1', value: said.signature },
    })
    expect(requests.at(-1)).toMatchObject({ call: 'PUT /api/v1/packages/pkg_1/file', body: CONTENT })
  })

  it('goes on with a draft of before', async () => {
    known()
    packages = [
      { id: 'pkg_1', module: 'default', version: 'v2', kind: 'full', sourceVersion: null, state: 'draft' },
    ]
    expect((await upload()).code).toBe(0)
    expect(requests.slice(-2).map(({ call }) => call)).toEqual([
      'PUT /api/v1/packages/pkg_1/signature',
      'PUT /api/v1/packages/pkg_1/file',
    ])
  })

  it('leaves a package that is ready as it is, and says if it is another one', async () => {
    known()
    const { said } = await sign()
    const ready = {
      id: 'pkg_1',
      module: 'default',
      version: 'v2',
      kind: 'full',
      sourceVersion: null,
      state: 'ready',
    }
    packages = [{ ...ready, sha256: said.sha256, signature: { keyId: 'sgk_1', value: said.signature } }]
    expect((await upload()).said).toMatchObject({ packageId: 'pkg_1' })
    packages = [{ ...ready, sha256: said.sha256, signature: null }]
    const { code, stderr } = await upload()
    expect([code, stderr]).toEqual([1, 'The product has a package of this version already: pkg_1.\n'])
    expect(requests.some(({ call }) => call.startsWith('PUT'))).toBe(false)
  })

  it('says what is missing: the product, its key, or which of two products', async () => {
    known()
    products = []
    expect((await upload()).stderr).toMatch(/No product has the signing name lamp/)
    known()
    keys = keys.slice(0, 1)
    expect((await upload()).stderr).toContain(maker.publicKey)
    known()
    products.push({ id: 'prd_2', signingName: 'lamp' })
    expect((await upload()).stderr).toMatch(/prd_1 or prd_2/)
    expect((await upload('--product-id', 'prd_1')).code).toBe(0)
  })
})
