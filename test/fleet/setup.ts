import type { Api } from './api-client.ts'
import type { DeviceIdentity } from './device.ts'
import { makeFirmware } from './firmware.ts'
import { toCsv } from './identities.ts'
import type { Maker } from './maker.ts'

/** Returns the product of this name; creates it if there is none. */
export async function ensureProduct(
  api: Api,
  name: string,
): Promise<{ id: string; name: string; signingName: string }> {
  for await (const product of api.products()) if (product.name === name) return product
  return api.createProduct({ name, description: 'Simulated devices' })
}

/** Imports the devices of a fleet; throws if one is rejected. */
export async function importFleet(
  api: Api,
  productId: string,
  devices: readonly DeviceIdentity[],
): Promise<{ created: number; updated: number }> {
  const { created, updated, rejected } = await api.importDevices(productId, toCsv(devices))
  const [first] = rejected
  if (first) throw new Error(`${rejected.length} devices were rejected; line ${first.line}: ${first.reason}`)
  return { created, updated }
}

interface WantedPackage {
  productId: string
  version: string
  module: string
  /** In bytes. */
  size: number
}

/**
 * Returns a ready package of this version, signed if there is a maker; creates and uploads it if the product has none.
 * Throws if the product has one that the maker did not sign.
 */
export async function ensurePackage(api: Api, wanted: WantedPackage, maker?: Maker): Promise<{ id: string }> {
  const { productId, version, module, size } = wanted
  const file = makeFirmware(version, size)
  const upload = (id: string) => api.uploadFile(id, `firmware-${version}.bin`, file)
  for await (const pkg of api.packages(productId)) {
    const isWanted = pkg.version === version && pkg.module === module && pkg.kind === 'full'
    if (!isWanted) continue
    if (maker && pkg.signature?.keyId !== maker.keyId) {
      throw new Error(`The package of ${version} is there without this signature: choose another version.`)
    }
    return pkg.state === 'ready' ? pkg : upload(pkg.id)
  }
  const signature = maker?.sign(version, module, file)
  const pkg = await api.createPackage({
    productId,
    name: `Firmware ${version}`,
    version,
    module,
    ...(signature && { signature }),
  })
  return upload(pkg.id)
}
