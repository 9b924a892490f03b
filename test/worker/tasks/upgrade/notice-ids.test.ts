import { runInDurableObject } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { describe, expect, it } from 'vitest'
import { hubStub } from '../../../../src/hub/hub.ts'
import { type Lab, type LabDevice, makeLab } from '../../lab.ts'
import { moveClock, until } from '../../lab-clock.ts'

const MINUTE = 60_000

async function twoModules() {
  const lab = await makeLab(1)
  const [device] = lab.devices as [LabDevice]
  await lab.upgradeTo('v2')
  const first = await lab.bridge.notice(device)
  await lab.addTask(await lab.addPackage('v2', { module: 'MCU' }))
  const second = await lab.bridge.notice(device)
  return { lab, device, first: Number(first.notice.id), second: Number(second.notice.id) }
}

const nextId = (lab: Lab) =>
  runInDurableObject(hubStub(env, `${lab.admin.tenantId}/default`), (_, { storage }) =>
    storage.kv.get<number>('nextNoticeId'),
  )

describe('notice ids grow for a device, whichever module they are for', () => {
  it('a notice that goes out again after one for another module gets a new id', async () => {
    const { lab, device, first, second } = await twoModules()
    expect(second).toBeGreaterThan(first)
    moveClock(2 * MINUTE)
    await until('both notices again', () => lab.bridge.frames.length === 2)
    const again = lab.bridge.frames.map(({ notice }) => Number(notice.id))
    expect(lab.bridge.frames.every(({ notice }) => notice.device === device.id)).toBe(true)
    expect(Math.min(...again)).toBeGreaterThanOrEqual(second)
    expect(new Set([first, second, ...again]).size).toBeGreaterThanOrEqual(3)
    expect(again).not.toContain(first)
  })

  it('none are used up while no bridge has credit', async () => {
    const lab = await makeLab(20, {}, 0)
    const before = await nextId(lab)
    await lab.upgradeTo('v2')
    await lab.bridge.idleFor(10 * MINUTE)
    await lab.unexpected()
    expect(await nextId(lab)).toBe(before)
  })
})
