import { parseArgs } from 'node:util'
import { MAX_COUNTER } from '../../src/protocol/firmware-signature.ts'

export const HELP = `Signs a firmware file, offline, and uploads it if asked to.

  npm run sign -- FILE --key KEY.pem --product NAME --version V [options]

  --key KEY.pem     the private key; make one by: openssl genpkey -algorithm ed25519 -out KEY.pem
  --product NAME    the product's signing name, as devices have it built in
  --version V       the version that the file brings
  --module NAME     the module that it is for (default: default, the whole firmware)
  --source V        the version that a differential file starts from
  --counter N       the security counter (default: 0)

  --upload URL      makes the package at this installation and uploads the file, with the API key in EDGE_OTA_KEY
  --product-id ID   the product, if several have this signing name
  --name NAME       the package's name (default: the product and the version)
  --md5             devices get the file's MD5 as its digest; the signature covers the SHA-256 all the same
  --help            print this

The passphrase of an encrypted key is asked for, or taken from SIGN_PASSPHRASE.`

/** Characters of a package's name. */
const MAX_NAME = 128

export interface SignOptions {
  file: string
  key: string
  product: string
  version: string
  module: string
  /** Null for a full package. */
  source: string | null
  counter: number
  /** Null if the file is only signed. */
  upload: { url: string; productId: string | null; name: string; signMethod: 'SHA256' | 'MD5' } | null
}

/** Reads the command line; undefined if it asks for the help. Throws an Error that names the option at fault. */
export function readOptions(args: string[]): SignOptions | undefined {
  const string = { type: 'string' as const }
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      key: string,
      product: string,
      version: string,
      module: { ...string, default: 'default' },
      source: string,
      counter: { ...string, default: '0' },
      upload: string,
      'product-id': string,
      name: string,
      md5: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return undefined
  const [file, ...more] = positionals
  if (file === undefined || more.length > 0) throw new Error('Name one file to sign.')
  const product = line('product', values.product)
  const version = line('version', values.version)
  return {
    file,
    key: line('key', values.key),
    product,
    version,
    module: line('module', values.module),
    source: values.source === undefined ? null : line('source', values.source),
    counter: readCounter(values.counter),
    upload:
      values.upload === undefined
        ? null
        : {
            url: readUrl(values.upload),
            productId: values['product-id'] ?? null,
            name: values.name ?? `${product} ${version}`.slice(0, MAX_NAME),
            signMethod: values.md5 ? 'MD5' : 'SHA256',
          },
  }
}

/** The server cuts blanks around a name, which would then not be the one that was signed. */
function line(name: string, text: string | undefined): string {
  if (text === undefined || text === '') throw new Error(`--${name} is missing.`)
  if (text.trim() !== text) throw new Error(`--${name} begins or ends with a blank.`)
  return text
}

function readCounter(text: string): number {
  const counter = Number(text)
  if (!/^\d+$/.test(text) || counter > MAX_COUNTER) {
    throw new Error(`--counter is a whole number from 0 to ${MAX_COUNTER}, not ${text}.`)
  }
  return counter
}

const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/

/** An API key goes there: over plain http only on this machine. */
function readUrl(text: string): string {
  const url = URL.parse(text)
  const isSafe = url?.protocol === 'https:' || (url?.protocol === 'http:' && LOOPBACK.test(url.hostname))
  if (!isSafe) throw new Error(`--upload needs an https address, not ${text}.`)
  return text.replace(/\/+$/, '')
}
