import { textReason } from '../../reasons/reason.ts'
import type { BridgeOrder } from '../rules/bridge-order.ts'
import { isEnded, newUpgrade, type Upgrade, type UpgradeStatus } from '../rules/upgrade.ts'
import { type HistoryEvent, readEvents } from './history.ts'

export interface DeviceRow {
  deviceId: string
  number: string
  name: string | null
  fromVersion: string | null
  updatedAt: number
  /** When its notice is owed; null if none is, and before its first turn, which the send cursor finds. */
  sendAt: number | null
  /** The page of the outbox in which its outcome waits to be written to D1 (`device-pages.ts`); null if none waits. */
  outbox: number | null
  /** When it is looked at without a message from it: its page of the timers. */
  timerAt: number | null
  /** Null if the device's place decides its wave (`waves.ts`). */
  wave: number | null
  /** The last message of a bridge that was taken; null before. */
  heard: BridgeOrder | null
  upgrade: Upgrade
  events: HistoryEvent[]
}

/** In `outbox`: its outcome is to be put into the next page. */
export const NEXT_PAGE = 0
/** `sendAt` of a device that asked: it is served although the task is paused. */
export const ASKED = -1

/** From when on a notice is owed; null if none is. */
export function owedAt(upgrade: Upgrade): number | null {
  if (upgrade.owed === 'no' || isEnded(upgrade.status)) return null
  return upgrade.heldUntil ?? (upgrade.owed === 'asked' ? ASKED : 0)
}

/** A device's record in the table. */
export interface DeviceRecord extends Record<string, SqlStorageValue> {
  device_id: string
  number: string
  name: string | null
  from_version: string | null
  status: UpgradeStatus
  step: number | null
  description: string | null
  updated_at: number
  send_at: number | null
  timer_at: number | null
  outbox: number | null
  wave: number | null
  state: string
  events: string
  heard: string | null
}

/** `firstPage`: the first page of the outbox that was not written to D1. */
export function toRow(record: DeviceRecord, firstPage: number): DeviceRow {
  const { status, step, description } = record
  return {
    deviceId: record.device_id,
    number: record.number,
    name: record.name,
    fromVersion: record.from_version,
    updatedAt: record.updated_at,
    outbox: record.outbox !== null && record.outbox >= firstPage ? record.outbox : null,
    sendAt: record.send_at,
    timerAt: record.timer_at,
    wave: record.wave,
    heard: record.heard === null ? null : JSON.parse(record.heard),
    upgrade: { ...newUpgrade(), ...readState(record.state), status, step, description },
    events: readEvents(record.events),
  }
}

/** Earlier releases wrote `heldBy` down as a sentence. */
export function readState(text: string): Partial<Upgrade> {
  const state = JSON.parse(text)
  return typeof state.heldBy === 'string' ? { ...state, heldBy: textReason(state.heldBy) } : state
}

// Rows rely on these: a default that changes needs a migration of `state`.
const FRESH: Record<string, unknown> = { ...newUpgrade() }

/** What lists filter by has a column of its own. The rest is one column of JSON: what differs from a new upgrade. */
export function fromUpgrade(upgrade: Upgrade) {
  const { status, step, description, ...rest } = upgrade
  const changed: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(rest)) if (value !== FRESH[name]) changed[name] = value
  return { status, step, description, state: JSON.stringify(changed) }
}
