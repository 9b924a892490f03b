import { runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { describe, expect, it } from 'vitest'
import { taskStub } from '../../../src/tasks/api/task-stub.ts'
import { type Counters, meterD1, meterStorage, readCounters, resetCounters } from '../../bench/meter.ts'
import { makeLab, progresses, reports } from '../lab.ts'
import { sent, taken } from '../lab-bridge.ts'
import { until, untilIdle } from '../lab-clock.ts'

// Rows written are what Cloudflare charges most for (test/bench/README.md#scale). These figures are the lowest reached;
// raise one only on purpose.

const DEVICES = 100
const STEPS = [5, 20, 40, 60, 80, 100]

/** Rows per device, rounded down: what is written once for a batch, a page or a task does not count. */
const perDevice = ({ objectRowsWritten, d1RowsWritten }: Counters) => ({
  object: Math.floor(objectRowsWritten / DEVICES),
  d1: Math.floor(d1RowsWritten / DEVICES),
})

describe('rows written per device', () => {
  it('an upgrade writes one row per device in the object for its start, its notice and each batch, and one in D1 for its start and another for its new version', async () => {
    const lab = await makeLab(DEVICES)
    await lab.bridge.post(lab.devices.map((device) => reports(device, 'v1.0.0')))
    const packageId = await lab.addPackage('v1.1.0')
    meterD1(env.DB)
    await runInDurableObject(taskStub(env, 'tsk_to_meter'), (_, state) => meterStorage(state))
    resetCounters()

    const task = await lab.addTask(packageId)
    await until('each device has a notice', () => lab.bridge.frames.length === DEVICES)
    await untilIdle()
    expect(perDevice(readCounters()), 'enrolled, and offered').toEqual({ object: 1, d1: 1 })

    resetCounters()
    await lab.bridge.post(lab.bridge.frames.splice(0).flatMap((frame) => [sent(frame), taken(frame)]))
    expect(perDevice(readCounters()), 'sent and taken').toEqual({ object: 1, d1: 0 })

    for (const step of STEPS) {
      resetCounters()
      await lab.bridge.post(lab.devices.map((device) => progresses(device, step)))
      expect(perDevice(readCounters()), `progress ${step}`).toMatchObject({ object: 1 })
    }
    await task.becomes('finished')
    await untilIdle()
    resetCounters()
    await lab.bridge.post(
      lab.devices.flatMap((device) => [progresses(device, 100), reports(device, 'v1.1.0')]),
    )
    await untilIdle()
    expect(perDevice(readCounters()), 'the new version').toEqual({ object: 1, d1: 1 })
  })

  it('the end of an upgrade writes two rows per device in D1, its slot and its outcome', async () => {
    const lab = await makeLab(DEVICES)
    await lab.bridge.post(lab.devices.map((device) => reports(device, 'v1.0.0')))
    const task = await lab.upgradeTo('v1.1.0')
    await until('each device has a notice', () => lab.bridge.frames.length === DEVICES)
    await lab.bridge.post(lab.bridge.frames.splice(0).flatMap((frame) => [sent(frame), taken(frame)]))
    await untilIdle()
    meterD1(env.DB)
    await runInDurableObject(taskStub(env, task.id), (_, state) => meterStorage(state))
    resetCounters()
    await lab.bridge.post(lab.devices.map((device) => progresses(device, 100)))
    await task.becomes('finished')
    await untilIdle()
    expect(perDevice(readCounters())).toEqual({ object: 1, d1: 2 })
  })
})
