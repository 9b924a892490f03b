import { downloadTtlSeconds } from '../../common/env.ts'
import { downloadsMode } from '../../links/linker.ts'
import type { DownloadLink } from '../../links/links.ts'
import { type AddressedDevice, claimSlots, type DueProduct } from '../database/slots.ts'
import { changeStored } from '../effects/change-device.ts'
import type { TaskContext } from '../effects/task-context.ts'
import { isUnsure } from '../rules/slot.ts'
import { choosePackage, type TaskPackage } from '../rules/task.ts'
import { sendable } from './turn.ts'

// What a notice needs before it can go out, however it goes: a slot, an id, a package that fits, a link.

/** A slot that was lost between the look and the claim is looked at again after this. */
const SLOT_LOST_LOOK_AGAIN_MS = 5_000

/** A device whose slot is claimed, and the id of the notice that goes to it. */
export interface Claimed {
  device: AddressedDevice
  noticeId: number
}

export const lastNoticeId = (devices: AddressedDevice[]) =>
  Math.max(0, ...devices.map((device) => device.lastNoticeId))

/** Takes the slots. A notice that goes out again keeps its id. */
export async function claim(
  task: TaskContext,
  devices: AddressedDevice[],
  firstNoticeId: number,
  now: () => number,
): Promise<Claimed[]> {
  const wanted = devices.map((device, index): Claimed => {
    const again = task.storage.readRow(device.id)?.upgrade.offer?.noticeId
    return { device, noticeId: again === device.slot?.lastNoticeId && again ? again : firstNoticeId + index }
  })
  const got = await claimSlots(
    task.env.DB,
    task.spec,
    task.rank,
    wanted.map(({ device, noticeId }) => ({ deviceId: device.id, noticeId })),
  )
  for (const { device } of wanted) {
    if (got.has(device.id)) continue
    const held = {
      type: 'held',
      until: now() + SLOT_LOST_LOOK_AGAIN_MS,
      by: 'its slot changed hands',
      waiting: false,
    } as const
    changeStored(task, device.id, held, { kind: 'waits', detail: held.by }, now())
  }
  task.storage.writeRun(task.run)
  return wanted.filter(({ device }) => got.has(device.id))
}

/** The package that fits a device, and the link to it. */
export interface Parcel {
  pkg: TaskPackage
  link: DownloadLink
}

/** Undefined where no package fits the device any more: what it needs was recalled. */
export async function pack(
  task: TaskContext,
  product: DueProduct,
  device: AddressedDevice,
  now: number,
): Promise<Parcel | undefined> {
  const { env, spec } = task
  const pkg = choosePackage(sendable(task), device.version)
  if (!pkg) return undefined
  const link = await task.link({
    mode: downloadsMode(env, product.downloads),
    taskId: spec.id,
    deviceId: device.id,
    packageIndex: spec.packages.indexOf(pkg),
    storageKey: pkg.storageKey,
    ttlSeconds: spec.policy.downloadTtlSeconds ?? downloadTtlSeconds(env),
    now,
  })
  return { pkg, link }
}

/** Links through the Worker stop while the task pauses; what devices are sent from now on decides. */
export function noteLinks({ env, run }: TaskContext, product: DueProduct): void {
  run.linksStop = downloadsMode(env, product.downloads) === 'worker'
}

export const doubts = (task: TaskContext, device: AddressedDevice) => ({
  unsure: isUnsure(device.slot, task.spec.targetVersion),
  neverReported: device.version === null,
})
