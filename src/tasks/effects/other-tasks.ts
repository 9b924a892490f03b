import type { Env } from '../../common/env.ts'

/** What one task asks of another about the slots of devices (src/protocol/README.md#slots). */
export interface SlotPeer {
  /**
   * A newer task wants these slots. With `by`, its id, Pending and Pushed devices turn Cancelled. Returns the devices
   * whose slots are free now.
   */
  yieldSlots(deviceIds: string[], by: string | null): Promise<string[]>
  /** Slots that this task waits for are free. */
  slotsFreed(deviceIds: string[]): Promise<void>
  /** The newer task `by` waits for the same slots: this one ends there. */
  replaceDevices(deviceIds: string[], by: string): Promise<void>
}

/** Another task's object, as far as slots go. */
export const slotPeer = (env: Env, taskId: string) =>
  env.UPGRADE_TASK.getByName(taskId) as unknown as DurableObjectStub<SlotPeer & Rpc.DurableObjectBranded>
