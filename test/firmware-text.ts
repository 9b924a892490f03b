import { createHash } from 'node:crypto'

/** What the signature of a file covers, spelled out here once more: a test must not share the code that it checks. */
export const firmwareText = ({
  product = 'lamp',
  module = 'default',
  version,
  source,
  file,
  counter = 0,
}: {
  product?: string
  module?: string
  version: string
  source?: string
  file: string | Uint8Array
  counter?: number
}): string =>
  [
    'edge-ota-firmware-1',
    product,
    module,
    version,
    source === undefined ? 'full' : 'diff',
    source ?? '',
    file.length,
    createHash('sha256').update(file).digest('hex'),
    counter,
    '',
  ].join('\n')
