import { HELP, readOptions, type SignOptions } from './signing/options.ts'
import { askPassphrase, looseness, publicKeyOf, readPrivateKey } from './signing/private-key.ts'
import { measure, signFirmware } from './signing/sign-firmware.ts'
import { uploadSigned } from './signing/upload.ts'

// `npm run sign` signs a firmware file (src/signing/README.md#sign). The private key stays on this machine.

async function run({ upload, ...options }: SignOptions): Promise<void> {
  const apiKey = process.env.EDGE_OTA_KEY ?? ''
  // Before the passphrase is asked for.
  if (upload && apiKey === '') throw new Error('--upload needs an API key in EDGE_OTA_KEY.')
  const loose = looseness(options.key)
  if (loose) console.error(loose)
  const key = await readPrivateKey(options.key, askPassphrase)
  const { size, sha256 } = await measure(options.file)
  if (size === 0) throw new Error(`${options.file} is empty.`)
  const { product: signingName, module, version, source: sourceVersion, counter } = options
  const signature = signFirmware(key, { signingName, module, version, sourceVersion, size, sha256, counter })
  const signed = { publicKey: publicKeyOf(key), signature, size, sha256 }
  show(signed)
  if (upload) show(await uploadSigned({ ...options, upload }, signed, apiKey))
}

const show = (values: object) => {
  for (const [name, value] of Object.entries(values)) console.log(`${name}: ${value}`)
}

try {
  const options = readOptions(process.argv.slice(2))
  if (options) await run(options)
  else console.log(HELP)
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 1
}
