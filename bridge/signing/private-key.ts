import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'

/** Bits of a file's mode that let others than its owner do anything with it. */
const OTHERS = 0o077
/** The raw key is the last part of its DER form. */
const PUBLIC_KEY_BYTES = 32

/**
 * Reads an Ed25519 private key from a PEM file; `ask` is called for the passphrase of an encrypted one. Throws an Error
 * for people if it cannot.
 */
export async function readPrivateKey(path: string, ask: () => Promise<string>): Promise<KeyObject> {
  const pem = readFileSync(path, 'utf8')
  const key = await open(pem, ask).catch((cause: Error) => {
    throw new Error(`${path} holds no private key that can be read: ${cause.message}`, { cause })
  })
  if (key.asymmetricKeyType === 'ed25519') return key
  throw new Error(
    `${path} is a key of type ${key.asymmetricKeyType}; make one by: openssl genpkey -algorithm ed25519`,
  )
}

/** Either kind of encrypted PEM says so in its head. */
const ENCRYPTED = /^(-----BEGIN ENCRYPTED |Proc-Type: 4,ENCRYPTED)/m

const open = async (pem: string, ask: () => Promise<string>): Promise<KeyObject> =>
  ENCRYPTED.test(pem) ? createPrivateKey({ key: pem, passphrase: await ask() }) : createPrivateKey(pem)

/** What is wrong with who may read the file; undefined if only its owner can. */
export function looseness(path: string): string | undefined {
  const mode = statSync(path).mode & OTHERS
  // Windows has no such bits.
  if (process.platform === 'win32' || mode === 0) return undefined
  return `Warning: others can read or change ${path}, a private key. Make it yours alone: chmod 600 ${path}`
}

/** The passphrase from `SIGN_PASSPHRASE`, else from the terminal, where it is not shown. */
export async function askPassphrase(): Promise<string> {
  const { SIGN_PASSPHRASE: given } = process.env
  if (given !== undefined) return given
  if (!process.stdin.isTTY) throw new Error('it is encrypted, and SIGN_PASSPHRASE is not set')
  const silence = new Writable({ write: (_chunk, _encoding, done) => done() })
  const terminal = createInterface({ input: process.stdin, output: silence, terminal: true })
  process.stderr.write('Passphrase: ')
  try {
    return await terminal.question('')
  } finally {
    terminal.close()
    process.stderr.write('\n')
  }
}

/** The raw public key in base64, as a product takes it. */
export const publicKeyOf = (key: KeyObject): string =>
  createPublicKey(key).export({ type: 'spki', format: 'der' }).subarray(-PUBLIC_KEY_BYTES).toString('base64')
