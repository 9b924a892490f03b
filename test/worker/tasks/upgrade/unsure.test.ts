import { describe, expect, it } from 'vitest'
import { type LabDevice, type LabTask, makeLab, over, progresses, reports, slotOf } from '../../lab.ts'
import { sent, taken } from '../../lab-bridge.ts'

const HOUR = 3_600_000

/** A device that had a notice for v2 and then one for v3. `first` runs between the two. */
async function replaced(first: (device: LabDevice) => Promise<void> | void, reported = true, policy = {}) {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  if (reported) await lab.bridge.post([reports(device, 'v1')])
  const older = await lab.upgradeTo('v2')
  await lab.push(device)
  await first(device)
  const newer = await lab.upgradeTo('v3', { policy })
  await lab.push(device)
  return { lab, device, older, newer }
}

const nothing = () => {}

describe('late progress of a replaced upgrade', () => {
  it('late progress of a replaced upgrade does not make the newer one a Success, and the version report does', async () => {
    const { lab, device, older, newer } = await replaced(nothing)
    await lab.bridge.post([progresses(device, 80), progresses(device, 100)])
    expect(await newer.device(device)).toMatchObject({ status: 'upgrading', step: 100 })
    expect((await older.device(device)).status).toBe('cancelled')
    await lab.bridge.post([reports(device, 'v2')])
    await lab.push(device)
    expect(await newer.device(device)).toMatchObject({ status: 'upgrading', rolledBack: false, pushes: 2 })
    await lab.bridge.post([progresses(device, 100), reports(device, 'v3')])
    expect(await newer.device(device)).toMatchObject({ status: 'success', rolledBack: false })
  })

  it('100 % makes a Success, "unverified", for a device that never reported a version', async () => {
    const { lab, device, newer } = await replaced(nothing, false)
    await lab.bridge.post([progresses(device, 100)])
    expect(await newer.device(device)).toMatchObject({ status: 'success', description: 'unverified' })
  })

  it('100 % after a replaced upgrade makes no Success once the device has reported a version', async () => {
    const { lab, device, newer } = await replaced(nothing, false)
    await lab.bridge.post([reports(device, 'v1')])
    await lab.push(device)
    await lab.bridge.post([progresses(device, 100)])
    expect((await newer.device(device)).status).toBe('upgrading')
  })

  it('a report of another version after 100 % is no rollback while the device is unsure, and gets the notice again', async () => {
    const { lab, device, newer } = await replaced(nothing, true, { confirm: 'version' })
    await lab.bridge.post([progresses(device, 100), reports(device, 'v2')])
    await lab.push(device)
    expect(await newer.device(device)).toMatchObject({ status: 'upgrading', rolledBack: false })
  })

  it('a failure reported after a replaced upgrade is a Failure of the newer one', async () => {
    const { lab, device, newer } = await replaced(nothing)
    await lab.bridge.post([progresses(device, -4)])
    expect(await newer.device(device)).toMatchObject({ status: 'failure', step: -4 })
  })

  it('a device is unsure too if the bridge still held the older notice when its upgrade was replaced', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    await lab.bridge.post([reports(device, 'v1')])
    await lab.upgradeTo('v2')
    const late = await lab.bridge.notice(device)
    const newer = await lab.upgradeTo('v3')
    const { frame } = await lab.bridge.notice(device)
    await lab.bridge.post([sent(late.frame), taken(late.frame), progresses(device, 100)])
    expect(await newer.device(device)).toMatchObject({ status: 'pending', step: null })
    await lab.bridge.post([sent(frame), progresses(device, 100), taken(frame)])
    expect(await newer.device(device)).toMatchObject({ status: 'upgrading', step: 100 })
    await lab.bridge.post([reports(device, 'v3')])
    expect((await newer.device(device)).status).toBe('success')
  })
})

describe('unsure devices', () => {
  /** Ends an upgrade to v2 by `end`, then has the device report 100 % for v3, without a version report. */
  async function nextUpgrade(
    end: (task: LabTask, device: LabDevice, lab: Awaited<ReturnType<typeof makeLab>>) => unknown,
  ) {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    await lab.bridge.post([reports(device, 'v1')])
    const older = await lab.upgradeTo('v2')
    await lab.push(device)
    await end(older, device, lab)
    await older.becomes('finished')
    await lab.unexpected()
    const newer = await lab.upgradeTo('v3')
    await lab.push(device)
    await lab.bridge.post([progresses(device, 100)])
    return { status: (await newer.device(device)).status, lab, device, older, newer }
  }

  it('a device is unsure after a cancelled upgrade to another version', async () => {
    const { status } = await nextUpgrade((task, device) => task.post(`/devices/${device.id}/cancel`))
    expect(status).toBe('upgrading')
  })

  it('a device is unsure after an upgrade to another version that timed out', async () => {
    const { status, older, device } = await nextUpgrade(async (_, device, lab) => {
      await lab.bridge.post([progresses(device, 10)])
      await lab.bridge.idleFor(HOUR + 1000)
    })
    expect((await older.device(device)).description).toBe('timed out')
    expect(status).toBe('upgrading')
  })

  it('a device is not unsure after an upgrade that succeeded or that it reported as failed', async () => {
    for (const step of [-1, 100]) {
      const { status } = await nextUpgrade((_, device, lab) => lab.bridge.post([progresses(device, step)]))
      expect(status).toBe('success')
    }
  })

  it('a device is no longer unsure after its next Success', async () => {
    const { status, lab, device, newer } = await nextUpgrade((task, device) =>
      task.post(`/devices/${device.id}/cancel`),
    )
    expect(status).toBe('upgrading')
    await lab.bridge.post([reports(device, 'v3')])
    await newer.becomes('finished')
    await lab.unexpected()
    expect(await slotOf(device)).toMatchObject({ doubt_version: null })
    const last = await lab.upgradeTo('v4')
    await lab.push(device)
    await lab.bridge.post([progresses(device, 100)])
    expect((await last.device(device)).status).toBe('success')
  })

  it('a device is not unsure after a cancelled upgrade to the same version', async () => {
    const lab = await makeLab(1)
    const [device] = lab.devices as [LabDevice]
    await lab.bridge.post([reports(device, 'v1')])
    const task = await lab.upgradeTo('v2')
    await lab.push(device)
    await task.post(`/devices/${device.id}/cancel`)
    await lab.unexpected()
    await task.post(`/devices/${device.id}/retry`)
    expect((await over(device)('GET', '/device/v1/upgrade')).body.params.version).toBe('v2')
    await lab.bridge.post([progresses(device, 100)])
    expect((await task.device(device)).status).toBe('success')
  })
})
