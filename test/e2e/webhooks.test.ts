import { randomBytes } from 'node:crypto'
import { Webhook as Verifier } from 'standardwebhooks'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startReceiver } from '../worker/webhooks/webhooks-receiver.ts'
import { eventually, type System, startSystem } from './system.ts'
import type { Operator } from './system-operator.ts'

// Webhooks as a receiver sees them: a real HTTP server that checks signatures with the receivers' library.

let system: System
let receiver: Awaited<ReturnType<typeof startReceiver>>
beforeAll(async () => {
  receiver = await startReceiver()
  system = await startSystem({
    withBridge: true,
    withDownloads: false,
    vars: { WEBHOOKS_ALLOW_PRIVATE: 'true' },
  })
})
afterAll(async () => {
  receiver.close()
  await system.close()
})

const makeWebhook = (operator: Operator, name: string, events: string[]) =>
  operator.post('/api/v1/webhooks', { url: `${receiver.url}/hook/${name}`, events })

/** The verified events that the receiver got under this name. */
const heard = (name: string, secret: string) =>
  receiver.received(name).map(({ headers, body }) => ({
    id: headers['webhook-id'],
    ...(new Verifier(secret).verify(body, headers as Record<string, string>) as {
      type: string
      data: object
    }),
  }))

/** Plays a device whose upgrade succeeds or fails. */
async function upgrade(operator: Operator, step: number) {
  const productId = await operator.product()
  const known = await operator.device(productId, 'one')
  const device = await system.connect(known.username)
  await device.listen()
  await device.inform('v1.0.0')
  const { id: packageId } = await operator.pkg(productId, 'v1.1.0', randomBytes(1000))
  const task = await operator.task(packageId)
  await device.notice(1)
  await device.progress(step)
  await eventually(async () => expect((await operator.view(task.id)).status).toBe('finished'))
  return { task, known }
}

it('webhooks report the events of a task, signed and without links or tokens', async () => {
  const operator = await system.newTenant()
  const { secret } = await makeWebhook(operator, 'task', ['task.started', 'device.failed', 'task.finished'])
  const { task, known } = await upgrade(operator, -3)
  const events = await eventually(() => {
    const all = heard('task', secret)
    expect(all.map(({ type }) => type).toSorted()).toEqual(['device.failed', 'task.finished', 'task.started'])
    return all
  })
  for (const { data } of events) expect(data).toMatchObject({ taskId: task.id })
  const all = receiver.received('task').map(({ body }) => body)
  expect(all.join()).not.toMatch(/https?:/)
  expect(all.join()).not.toContain(known.username)
  expect(system.errors()).toEqual([])
})

it('an event is sent again under the same id after a 500, and after a kill of the Worker before it was recorded', async () => {
  const operator = await system.newTenant()
  const { id, secret } = await makeWebhook(operator, 'again', ['task.finished'])
  receiver.script('again', [{ status: 500, body: 'not now' }, { hangs: 'at once' }])
  await upgrade(operator, 100)
  const path = `/api/v1/webhooks/${id}/deliveries`
  await eventually(async () => {
    expect((await operator.get(path)).items).toMatchObject([
      { state: 'pending', attempts: 1, answer: 'not now' },
    ])
  })
  await eventually(() => expect(receiver.received('again')).toHaveLength(2))
  await system.restartWorker()

  await eventually(() => expect(receiver.received('again')).toHaveLength(3))
  await eventually(async () => {
    expect((await operator.get(path)).items).toMatchObject([{ state: 'delivered', attempts: 2, status: 204 }])
  })
  const [first, ...others] = heard('again', secret).map((event) => event.id)
  expect(others).toEqual([first, first])
})
