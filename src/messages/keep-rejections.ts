import type { Env } from '../common/env.ts'
import { hubStub } from '../hub/hub.ts'
import { MAX_REJECTIONS, type RejectionBatch } from '../hub/rejections.ts'
import { inEnglish } from '../reasons/reason.ts'
import type { Gathered } from './gather.ts'

const MAX_KEPT_PAYLOAD_BYTES = 1024

/** Keeps rejected messages for operators: in the hub, which writes them to D1 once a minute. */
export async function keepRejections(env: Env, { rejected }: Gathered, now: number): Promise<void> {
  const byHub = Map.groupBy(rejected, ({ sender }) => sender.hub)
  await Promise.all(
    [...byHub].map(([hub, messages]) => {
      const batches = [...Map.groupBy(messages, ({ sender }) => sender.id)].map(
        ([deviceId, group]): RejectionBatch => ({
          deviceId,
          tenantId: group[0]!.sender.tenantId,
          total: group.length,
          items: group
            .slice(-MAX_REJECTIONS)
            .reverse()
            .map(({ topic, payload, reason, key }) => ({
              at: now,
              topic,
              payload: firstKilobyte(payload),
              code: reason.code,
              reason: inEnglish(reason),
              ...(key !== undefined && { key }),
            })),
        }),
      )
      return hubStub(env, hub).keepRejections(batches)
    }),
  )
}

/** As text; bytes that are no UTF-8 become replacement characters. */
const firstKilobyte = (payload: Uint8Array) =>
  new TextDecoder().decode(payload.subarray(0, MAX_KEPT_PAYLOAD_BYTES))
