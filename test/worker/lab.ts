import { env, exports } from 'cloudflare:workers'
import { Buffer } from 'node:buffer'
import { createHash } from 'node:crypto'
import { expect } from 'vitest'
import type { NoticeFrame } from '../../src/protocol/bridge.ts'
import type { Notice } from '../../src/protocol/device.ts'
import { type Answer, type Client, caller, makeTenant } from './api.ts'
import { type Item, type LabBridge, makeBridge } from './lab-bridge.ts'
import { until, untilIdle, watchTask } from './lab-clock.ts'

/** A tenant with a product, devices, and a bridge whose part the test plays. */
export interface Lab {
  admin: Client & { tenantId: string }
  productId: string
  devices: LabDevice[]
  bridge: LabBridge
  /** Makes a ready package of the product and returns its id. */
  addPackage: (version: string, more?: Record<string, unknown>) => Promise<string>
  addTask: (packageId: string, more?: Record<string, unknown>) => Promise<LabTask>
  /** Makes a ready package and a task for it, by default for all devices. */
  upgradeTo: (
    version: string,
    task?: Record<string, unknown>,
    pkg?: Record<string, unknown>,
  ) => Promise<LabTask>
  /** Waits for the device's next notice and confirms it as the broker would. */
  push: (device: LabDevice) => Promise<{ frame: NoticeFrame; notice: Notice }>
  /** Waits until no task has anything to do now, and returns the notices that the test has not taken yet. */
  unexpected: () => Promise<NoticeFrame[]>
}

export interface LabDevice {
  id: string
  number: string
  token: string
}

export interface LabTask {
  id: string
  /** The task as the API shows it. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into whatever comes back
  get: () => Promise<any>
  // biome-ignore lint/suspicious/noExplicitAny: tests look into whatever comes back
  device: (device: LabDevice) => Promise<any>
  post: (path: string) => Promise<Answer>
  patch: (changes: Record<string, unknown>) => Promise<Answer>
  /** Waits until the device has this status in the task. */
  reaches: (device: LabDevice, status: string) => Promise<void>
  /** Waits until the task has this status. */
  becomes: (status: string) => Promise<void>
}

const MADE_ONE_BY_ONE = 10

/** Makes a lab. A few devices are made one by one, many by an import. `credit` is what the bridge starts with. */
export async function makeLab(
  deviceCount = 1,
  product: Record<string, unknown> = {},
  credit = 1000,
): Promise<Lab> {
  const admin = await makeTenant()
  const made = await admin.call('POST', '/api/v1/products', { name: 'lamp', ...product })
  expect(made.status, JSON.stringify(made.body)).toBe(201)
  const productId = made.body.id as string
  const numbers = Array.from({ length: deviceCount }, (_, n) => `n${String(n + 1).padStart(4, '0')}`)
  const devices =
    deviceCount > MADE_ONE_BY_ONE
      ? await importDevices(admin, productId, numbers)
      : await Promise.all(numbers.map((number) => addDevice(admin, productId, number)))
  const bridge = await makeBridge(admin.tenantId, 'default', credit)
  const lab: Lab = {
    admin,
    productId,
    devices,
    bridge,
    addPackage: (version, more = {}) => addPackage(admin, productId, version, more),
    addTask: (packageId, more = {}) => addTask(admin, packageId, more),
    upgradeTo: async (version, task = {}, pkg = {}) => lab.addTask(await lab.addPackage(version, pkg), task),
    push: async (device) => {
      const next = await bridge.notice(device)
      await bridge.publish(next.frame)
      return next
    },
    unexpected: async () => {
      await untilIdle()
      await bridge.flushed()
      return bridge.frames
    },
  }
  return lab
}

/** Makes a device of the product through the API. */
export async function addDevice(admin: Client, productId: string, number: string): Promise<LabDevice> {
  const { status, body } = await admin.call('POST', '/api/v1/devices', { productId, number })
  expect(status, JSON.stringify(body)).toBe(201)
  return { id: body.id, number, token: body.accessToken }
}

async function importDevices(admin: Client, productId: string, numbers: string[]): Promise<LabDevice[]> {
  const tokens = new Map(numbers.map((number) => [number, `${productId}-${number}`]))
  const csv = ['number,access_token', ...[...tokens].map((cells) => cells.join(','))].join('\n')
  const path = `/api/v1/devices/import?productId=${productId}`
  const imported = await admin.call('POST', path, csv, { 'content-type': 'text/csv' })
  expect(imported.body).toMatchObject({ created: numbers.length, updated: 0, rejected: [] })
  const devices: LabDevice[] = []
  for (let cursor: string | null = ''; cursor !== null; ) {
    const after: string = cursor === '' ? '' : `&cursor=${cursor}`
    const { body } = await admin.call('GET', `/api/v1/devices?productId=${productId}&limit=200${after}`)
    for (const { id, number } of body.items) devices.push({ id, number, token: tokens.get(number)! })
    cursor = body.nextCursor
  }
  return devices
}

async function addPackage(
  admin: Client,
  productId: string,
  version: string,
  more: Record<string, unknown>,
): Promise<string> {
  const file = `firmware ${version}`
  const made = await admin.call('POST', '/api/v1/packages', { productId, name: 'firmware', version, ...more })
  expect(made.status, JSON.stringify(made.body)).toBe(201)
  const put = await exports.default.fetch(`http://edge-ota.test/api/v1/packages/${made.body.id}/file`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${admin.key}`, 'content-length': String(file.length) },
    body: file,
  })
  expect(put.status).toBe(200)
  return made.body.id
}

async function addTask(admin: Client, packageId: string, more: Record<string, unknown>): Promise<LabTask> {
  const made = await admin.call('POST', '/api/v1/tasks', {
    packageId,
    name: 'roll out',
    devices: 'all',
    ...more,
  })
  expect(made.status, JSON.stringify(made.body)).toBe(201)
  watchTask(made.body.id)
  const path = `/api/v1/tasks/${made.body.id}`
  const task: LabTask = {
    id: made.body.id,
    get: async () => (await admin.call('GET', path)).body,
    device: async (device) => (await admin.call('GET', `${path}/devices/${device.id}`)).body,
    post: (rest) => admin.call('POST', `${path}${rest}`),
    patch: (changes) => admin.call('PATCH', path, changes),
    reaches: (device, status) =>
      until(`${device.number} is ${status}`, async () => (await task.device(device)).status === status),
    becomes: (status) => until(`the task is ${status}`, async () => (await task.get()).status === status),
  }
  return task
}

/** The device's slot in D1, or null. */
export const slotOf = (device: LabDevice, module = 'default') =>
  env.DB.prepare('SELECT * FROM upgrades WHERE device_id = ? AND module = ?')
    .bind(device.id, module)
    .first<Record<string, unknown>>()

/** The device's outcome in the task as D1 has it, or null. */
export const outcomeOf = (task: LabTask, device: LabDevice) =>
  env.DB.prepare(
    'SELECT status, description, rolled_back, attempt FROM outcomes WHERE task_id = ? AND device_id = ?',
  )
    .bind(task.id, device.id)
    .first<Record<string, unknown>>()

const encode = (message: unknown) =>
  Buffer.from(typeof message === 'string' ? message : JSON.stringify(message)).toString('base64')

/** A message of the device as its bridge hands it over. Text is sent as it is, anything else as JSON. */
export const says = (device: LabDevice, topic: string, message: unknown): Item => ({
  kind: 'message',
  username: device.token,
  topic,
  payload: encode(message),
})
export const reports = (device: LabDevice, version: string, module?: string) =>
  says(device, 'ota/device/inform', { id: '1', params: { version, ...(module && { module }) } })
export const progresses = (device: LabDevice, step: number | string, more: Record<string, unknown> = {}) =>
  says(device, 'ota/device/progress', { step, desc: `at ${step}`, ...more })
export const requests = (device: LabDevice, id: string, module?: string) =>
  says(device, 'ota/device/request', { id, params: { ...(module && { module }) } })
export const subscribes = (device: LabDevice): Item => ({
  kind: 'presence',
  event: 'subscribed',
  username: device.token,
  topic: `ota/device/inform/${device.token}`,
})

/** Calls the device API over HTTPS with the device's token. */
export const over = (device: LabDevice) => caller(device.token)
export const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
