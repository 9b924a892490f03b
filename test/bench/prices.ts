/**
 * Prices of Cloudflare's paid plan beyond what it includes, in US dollars, as of 2026-11-01 (developers.cloudflare.com,
 * Pricing of Workers, Durable Objects, D1 and R2).
 */
export const PRICES_OF = '2026-11-01'

const MILLION = 1_000_000

export const PRICES = {
  workerRequest: 0.3 / MILLION,
  objectRequest: 0.15 / MILLION,
  /** 20 incoming messages count as one request. */
  webSocketMessage: 0.15 / MILLION / 20,
  objectGbSecond: 12.5 / MILLION,
  objectRowWritten: 1 / MILLION,
  objectRowRead: 0.001 / MILLION,
  d1RowWritten: 1 / MILLION,
  d1RowRead: 0.001 / MILLION,
  r2ClassA: 4.5 / MILLION,
  r2ClassB: 0.36 / MILLION,
  /** GB stored for a month. */
  objectGbStored: 0.2,
  d1GbStored: 0.75,
}

/** An object is billed for 128 MB while it works. */
export const OBJECT_GB = 0.128
