import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Certificates {
  caFile: string
  ca: Buffer
  /** Makes a certificate for 127.0.0.1, signed by this CA; returns its files and their contents. */
  issue(name: string): { certFile: string; keyFile: string; cert: Buffer; key: Buffer }
}

const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] })
const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']

/** Makes a new CA with openssl, in files under `directory`. */
export function makeCertificates(directory: string, caName: string): Certificates {
  const path = (name: string) => join(directory, `${caName}-${name}`)
  const caFile = path('ca.pem')
  openssl('req', '-x509', ...NEW_KEY, '-keyout', path('ca.key'), '-out', caFile, '-subj', `/CN=${caName}`)
  return {
    caFile,
    ca: readFileSync(caFile),
    issue(name) {
      const [certFile, keyFile, request] = [path(`${name}.pem`), path(`${name}.key`), path(`${name}.csr`)]
      openssl('req', ...NEW_KEY, '-keyout', keyFile, '-out', request, '-subj', `/CN=${name}`)
      writeFileSync(path('ext'), 'subjectAltName=IP:127.0.0.1')
      openssl(
        'x509',
        '-req',
        '-in',
        request,
        '-out',
        certFile,
        '-extfile',
        path('ext'),
        '-CA',
        caFile,
        '-CAkey',
        path('ca.key'),
        '-CAcreateserial',
      )
      return { certFile, keyFile, cert: readFileSync(certFile), key: readFileSync(keyFile) }
    },
  }
}
