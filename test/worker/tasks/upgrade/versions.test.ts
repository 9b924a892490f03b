import { describe, expect, it } from 'vitest'
import { type LabDevice, makeLab, outcomeOf, progresses, reports, slotOf } from '../../lab.ts'
import { sent, taken } from '../../lab-bridge.ts'
import { moveClock } from '../../lab-clock.ts'

const HOUR = 3_600_000

async function pushedLab(task: Record<string, unknown> = {}) {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  await lab.bridge.post([reports(device, 'v1')])
  const made = await lab.upgradeTo('v2', task)
  const first = await lab.push(device)
  return { lab, device, task: made, first }
}

describe('the wrong version', () => {
  it('a device that reports the wrong version four times gets three more notices and is then a Failure', async () => {
    const { lab, device, task, first } = await pushedLab()
    const ids = [first.notice.id]
    for (let push = 1; push <= 3; push++) {
      await lab.bridge.post([reports(device, 'v1')])
      ids.push((await lab.push(device)).notice.id)
      expect(await task.device(device)).toMatchObject({ status: 'pushed', pushes: 1 + push })
    }
    expect(new Set(ids).size).toBe(4)
    expect(ids).toEqual([...ids].sort())
    await lab.bridge.post([reports(device, 'v1')])
    expect(await task.device(device)).toMatchObject({
      status: 'failure',
      description: 'still reports v1 after 3 more notices',
    })
    expect(await lab.unexpected()).toEqual([])
    await task.becomes('finished')
    expect(await outcomeOf(task, device)).toMatchObject({ status: 'failure' })
    expect(await slotOf(device)).toMatchObject({ active: 0 })
  })

  it('version reports while a notice is on its way are answered by that notice', async () => {
    const { lab, device, task } = await pushedLab()
    await lab.bridge.post([1, 2, 3, 4, 5].map(() => reports(device, 'v1')))
    const { frame } = await lab.bridge.notice(device)
    await lab.bridge.post([1, 2, 3].map(() => reports(device, 'v1')))
    await lab.bridge.post([sent(frame), reports(device, 'v1'), taken(frame)])
    expect(await task.device(device)).toMatchObject({ status: 'pushed', pushes: 2 })
    expect(await lab.unexpected()).toEqual([])
  })

  it('an Upgrading device that reports the wrong version gets the notice again, within the same limit', async () => {
    const { lab, device, task } = await pushedLab({ policy: { mismatchPushes: 1 } })
    await lab.bridge.post([progresses(device, 40), reports(device, 'v1')])
    await lab.push(device)
    expect(await task.device(device)).toMatchObject({ status: 'upgrading', pushes: 2 })
    await lab.bridge.post([progresses(device, 20), reports(device, 'v1')])
    expect((await task.device(device)).status).toBe('failure')
  })

  it('a re-push that did not find the device is not counted', async () => {
    const { lab, device, task } = await pushedLab()
    for (let boot = 1; boot <= 5; boot++) {
      await lab.bridge.post([reports(device, 'v1')])
      const { frame } = await lab.bridge.notice(device)
      await lab.bridge.publish(frame, 'offline')
    }
    expect(await task.device(device)).toMatchObject({ status: 'pushed', pushes: 1 })
    await lab.bridge.post([reports(device, 'v1')])
    await lab.push(device)
    expect(await task.device(device)).toMatchObject({ status: 'pushed', pushes: 2 })
  })

  it('a retry counts wrong versions anew', async () => {
    const { lab, device, task } = await pushedLab({ policy: { mismatchPushes: 0 } })
    await lab.bridge.post([reports(device, 'v1')])
    expect((await task.device(device)).status).toBe('failure')
    expect((await task.post(`/devices/${device.id}/retry`)).body).toEqual({ retried: 1, skipped: [] })
    const { frame } = await lab.bridge.notice(device)
    // The report is not counted, since it comes before the first `sent` of the attempt.
    await lab.bridge.post([reports(device, 'v1'), sent(frame), taken(frame)])
    expect(await task.device(device)).toMatchObject({ status: 'pushed', attempt: 2, pushes: 1 })
    await lab.bridge.post([reports(device, 'v1')])
    expect((await task.device(device)).status).toBe('failure')
  })
})

describe('a version report after 100 %', () => {
  it('another version reported after 100 % shows as a rollback in the task, on the device and in the outcome', async () => {
    const { lab, device, task } = await pushedLab()
    await lab.bridge.post([progresses(device, 100)])
    await task.becomes('finished')
    await lab.unexpected()
    await lab.bridge.post([reports(device, 'v1.0.1')])
    const rolledBack = { status: 'success', rolledBack: true, description: 'reported 100 %, runs v1.0.1' }
    expect(await task.device(device)).toMatchObject(rolledBack)
    expect(await lab.unexpected()).toEqual([])
    expect(await outcomeOf(task, device)).toMatchObject({
      rolled_back: 1,
      description: rolledBack.description,
    })
    const shown = await lab.admin.call('GET', `/api/v1/devices/${device.id}`)
    expect(shown.body.modules).toMatchObject([
      { version: 'v1.0.1', rolledBack: 'reported 100 %, runs v1.0.1' },
    ])
    const history = await lab.admin.call('GET', `/api/v1/devices/${device.id}/upgrades`)
    expect(history.body.items).toMatchObject([{ taskId: task.id, status: 'success', rolledBack: true }])
    await lab.bridge.post([reports(device, 'v2')])
    const later = await lab.admin.call('GET', `/api/v1/devices/${device.id}`)
    expect(later.body.modules).toEqual([
      { module: 'default', version: 'v2', reportedAt: expect.any(String), certain: true, assumed: null },
    ])
  })

  it('another version reported after the target version is no rollback', async () => {
    const { lab, device, task } = await pushedLab()
    await lab.bridge.post([progresses(device, 100), reports(device, 'v2'), reports(device, 'v1')])
    await lab.unexpected()
    expect(await task.device(device)).toMatchObject({ status: 'success', rolledBack: false })
  })

  it('with `confirm: "version"` the version report makes the Success', async () => {
    const { lab, device, task } = await pushedLab({ policy: { confirm: 'version' } })
    await lab.bridge.post([progresses(device, 100)])
    expect(await task.device(device)).toMatchObject({ status: 'upgrading', step: 100 })
    await lab.bridge.post([reports(device, 'v2')])
    expect(await task.device(device)).toMatchObject({ status: 'success' })
  })

  it('with `confirm: "version"` another version reported after 100 % is a Failure at once and gets no notice', async () => {
    const { lab, device, task } = await pushedLab({ policy: { confirm: 'version' } })
    await lab.bridge.post([progresses(device, 100), reports(device, 'v1')])
    expect(await task.device(device)).toMatchObject({
      status: 'failure',
      rolledBack: true,
      description: 'rolled back: reported 100 %, runs v1',
    })
    expect(await lab.unexpected()).toEqual([])
    const shown = await lab.admin.call('GET', `/api/v1/devices/${device.id}`)
    expect(shown.body.modules[0].rolledBack).toContain('reported 100 %, runs v1')
  })
})

describe('download links', () => {
  it('−2 after the link has expired is no Failure and gets a fresh notice, three times', async () => {
    const { lab, device, task, first } = await pushedLab({ policy: { downloadTtlSeconds: 600 } })
    let url = first.notice.params.url
    for (let push = 1; push <= 3; push++) {
      moveClock(HOUR)
      await lab.bridge.post([progresses(device, 5), progresses(device, -2)])
      const { notice } = await lab.push(device)
      expect(notice.params.url).not.toBe(url)
      url = notice.params.url
      expect(await task.device(device)).toMatchObject({ status: 'upgrading', step: 5, pushes: 1 + push })
    }
    moveClock(HOUR)
    await lab.bridge.post([progresses(device, -2)])
    expect(await task.device(device)).toMatchObject({ status: 'failure', step: -2 })
  })

  it('−2 while the link is valid is a Failure', async () => {
    const { lab, device, task } = await pushedLab({ policy: { downloadTtlSeconds: 7200 } })
    moveClock(HOUR)
    await lab.bridge.post([progresses(device, -2)])
    expect(await task.device(device)).toMatchObject({ status: 'failure', step: -2 })
  })

  it('expired links and wrong versions count together against the three re-pushes', async () => {
    const { lab, device, task } = await pushedLab({ policy: { downloadTtlSeconds: 60 } })
    for (let push = 1; push <= 3; push++) {
      moveClock(HOUR)
      await lab.bridge.post([push === 2 ? progresses(device, -2) : reports(device, 'v1')])
      await lab.push(device)
    }
    await lab.bridge.post([reports(device, 'v1')])
    expect(await task.device(device)).toMatchObject({ status: 'failure', pushes: 4 })
  })
})
