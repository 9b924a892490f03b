import type { Api } from './api-client.ts'
import type { DeviceIdentity } from './device.ts'
import { makeFirmware } from './firmware.ts'
import { toCsv } from './identities.ts'

/** Returns the product of this name; creates it if there is none. */
export async function ensureProduct(api: Api, name: string): Promise<{ id: string; name: string }> {
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

/** Returns a ready package of this version; creates and uploads it if the product has none. */
export async function ensurePackage(
  api: Api,
  wanted: { productId: string; version: string; module: string; size: number },
): Promise<{ id: string }> {
  const { productId, version, module, size } = wanted
  for await (const pkg of api.packages(productId)) {
    const isWanted = pkg.version === version && pkg.module === module && pkg.kind === 'full'
    if (isWanted) return pkg.state === 'ready' ? pkg : upload(api, pkg.id, version, size)
  }
  const pkg = await api.createPackage({ productId, name: `Firmware ${version}`, version, module })
  return upload(api, pkg.id, version, size)
}

const upload = (api: Api, packageId: string, version: string, size: number) =>
  api.uploadFile(packageId, `firmware-${version}.bin`, makeFirmware(version, size))
