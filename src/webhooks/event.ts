/** The events that a webhook can ask for, as operators write them in `events`. */
export const WEBHOOK_EVENT_TYPES = [
  'task.started',
  'task.wave_opened',
  'task.halted',
  'task.stalled',
  'task.finished',
  'device.failed',
  'device.rolled_back',
  'bridge.away',
  'rejections.spiking',
  'storage.filling',
] as const
export type WebhookEventType = (typeof WEBHOOK_EVENT_TYPES)[number]

/** Something that a tenant is told. There are no links and no tokens in its data. */
export interface WebhookEvent {
  /** The same for every repeat, so that it is delivered once however often it is published. */
  id: string
  type: WebhookEventType
  /** Milliseconds since 1970. */
  at: number
  data: Record<string, unknown>
}
