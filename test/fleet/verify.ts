import { isSignedBy } from '../../src/protocol/firmware-signature.ts'
import { UpgradeFault } from './fault.ts'
import type { ReceivedNotice } from './notice.ts'

/** What a device has built in to know its maker by. */
export interface Trust {
  /** Its product's name in signatures; never taken from a notice. */
  signingName: string
  /** Raw Ed25519 keys in base64; two while one takes the other's place. */
  publicKeys: readonly string[]
}

/** What the device runs now. */
export interface Running {
  module: string
  version: string
  /** The security counter of that image. */
  counter: number
}

const refused = (why: string) => new UpgradeFault(-3, why)

/**
 * Is the received file what the maker signed for this device (src/protocol/README.md#signed-firmware)? Throws an
 * UpgradeFault of -3 if not. Of the notice only the version, `isDiff` and the counter count, since they are signed.
 */
export async function verifyFirmware(
  { signingName, publicKeys }: Trust,
  { params }: ReceivedNotice,
  running: Running,
  file: { size: number; sha256: string },
): Promise<void> {
  const { version, isDiff, digestsign, signCounter: counter = 0 } = params
  if (digestsign === undefined) throw refused('no signature')
  if (counter < running.counter) throw refused(`counter ${counter} is lower than ${running.counter}`)
  const sourceVersion = isDiff === 1 ? running.version : null
  const firmware = { signingName, module: running.module, version, sourceVersion, ...file, counter }
  // `signKeyId` is only a hint: a device knows its keys, not how the server calls them.
  const fits = await Promise.all(publicKeys.map((key) => isSignedBy(key, digestsign, firmware)))
  if (!fits.includes(true)) throw refused('the signature does not fit')
}
