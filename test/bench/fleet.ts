import type { DeviceIdentity } from '../fleet/device.ts'
import { makeFirmware } from '../fleet/firmware.ts'
import { identitiesOf, toCsv } from '../fleet/identities.ts'
import type { Local } from './local.ts'

/** A new product with devices and a ready package. */
export interface BenchFleet {
  productId: string
  packageId: string
  devices: DeviceIdentity[]
  /** CSV rows imported a second. */
  importRate: number
}

const IMPORT_ROWS = 100_000
const FIRMWARE_BYTES = 64 * 1024

export const rate = (count: number, since: number) => Math.round(count / ((performance.now() - since) / 1000))

export async function makeFleet({ api }: Local, count: number): Promise<BenchFleet> {
  const { id: productId } = await api.createProduct({ name: `${count} devices` })
  const devices = identitiesOf(count, productId, 'bench')
  const since = performance.now()
  for (let at = 0; at < count; at += IMPORT_ROWS) {
    await api.importDevices(productId, toCsv(devices.slice(at, at + IMPORT_ROWS)))
  }
  const importRate = rate(count, since)
  const { id: packageId } = await api.createPackage({ productId, name: 'Firmware', version: 'v2.0.0' })
  await api.uploadFile(packageId, 'firmware.bin', makeFirmware('v2.0.0', FIRMWARE_BYTES))
  return { productId, packageId, devices, importRate }
}

export const startTask = ({ api }: Local, { packageId }: BenchFleet, devices: unknown = 'all') =>
  api.createTask({ packageId, name: 'bench', devices })
