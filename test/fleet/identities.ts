import { createHmac } from 'node:crypto'
import type { DeviceIdentity } from './device.ts'

const DIGITS = 5
const PRODUCT_PART = 6
const TOKEN_LENGTH = 32

/**
 * The numbers and tokens of a simulated fleet. Tokens are derived from the API key: the next run for the same product
 * has the same devices, and only the key's owner can compute their tokens.
 */
export const identitiesOf = (count: number, productId: string, key: string): DeviceIdentity[] =>
  Array.from({ length: count }, (_, index) => {
    // A number can be a topic only if it is unique on its bridge (src/protocol/README.md#topics).
    const number = `sim-${productId.slice(-PRODUCT_PART)}-${String(index + 1).padStart(DIGITS, '0')}`
    const digest = createHmac('sha256', key).update(`${productId} ${number}`).digest('base64url')
    return { number, accessToken: digest.slice(0, TOKEN_LENGTH) }
  })

/** The file for `POST /api/v1/devices/import`. */
export const toCsv = (devices: readonly DeviceIdentity[]) =>
  ['number,access_token', ...devices.map(({ number, accessToken }) => `${number},${accessToken}`), ''].join(
    '\n',
  )
