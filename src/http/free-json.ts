import { z } from '@hono/zod-openapi'

/** Objects and arrays inside each other, the outermost included: parsers on devices have small stacks, and so has ours. */
const MAX_NESTING = 16

/** An object of any JSON, for what is kept or passed on as it is; at most `maxBytes` of UTF-8. */
export const freeJson = (maxBytes: number) =>
  z
    .record(z.string(), z.unknown())
    // What goes over all of it comes after, and not at all if this fails.
    .refine(isFlat, { message: `must be nested at most ${MAX_NESTING} deep`, abort: true })
    .refine(
      (data) => new TextEncoder().encode(JSON.stringify(data)).byteLength <= maxBytes,
      `must be at most ${maxBytes} bytes of JSON`,
    )

/** Goes down level by level, since a recursion would end where it is to look. */
function isFlat(data: object): boolean {
  let level: object[] = [data]
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > MAX_NESTING) return false
    level = level.flatMap((part) => Object.values(part).filter(isContainer))
  }
  return true
}

const isContainer = (value: unknown): value is object => typeof value === 'object' && value !== null
