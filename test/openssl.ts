import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

// Keys and signatures by OpenSSL, so that our own code is checked against another implementation.

const folder = mkdtempSync(join(tmpdir(), 'openssl-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
let files = 0

/** Of a SubjectPublicKeyInfo the last 32 bytes are the raw Ed25519 key. */
const RAW_BYTES = 32

export const openssl = (...args: string[]): Buffer =>
  execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'pipe'] })

/** A file of its own in a folder that goes with the process. */
export const newFile = (name: string) => join(folder, `${++files}-${name}`)

/** Makes an Ed25519 key; returns its PEM file and the raw public key in base64. */
export function newSigningKey(): { pem: string; publicKey: string } {
  const pem = newFile('key.pem')
  openssl('genpkey', '-algorithm', 'ed25519', '-out', pem)
  const spki = openssl('pkey', '-in', pem, '-pubout', '-outform', 'DER')
  return { pem, publicKey: spki.subarray(-RAW_BYTES).toString('base64') }
}

/** The Ed25519 signature of a text in base64. */
export function signText(pem: string, text: string): string {
  const [message, signature] = [newFile('text'), newFile('signature')]
  writeFileSync(message, text)
  openssl('pkeyutl', '-sign', '-inkey', pem, '-rawin', '-in', message, '-out', signature)
  return readFileSync(signature).toString('base64')
}

/** Does OpenSSL accept the signature (base64) of the text? */
export function isSignatureOf(pem: string, text: string, signature: string): boolean {
  const [message, file] = [newFile('text'), newFile('signature')]
  writeFileSync(message, text)
  writeFileSync(file, Buffer.from(signature, 'base64'))
  try {
    openssl('pkeyutl', '-verify', '-inkey', pem, '-rawin', '-in', message, '-sigfile', file)
    return true
  } catch {
    return false
  }
}
