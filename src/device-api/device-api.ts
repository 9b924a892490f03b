import type { Env } from '../common/env.ts'
import { AppError, forbidden } from '../common/errors.ts'
import { concernedTasks } from '../messages/concerned.ts'
import { type Gathered, gatherMessage, newGathered, tellSeen } from '../messages/gather.ts'
import type { Sender } from '../messages/identify.ts'
import { keepRejections } from '../messages/keep-rejections.ts'
import { knownModule } from '../messages/modules.ts'
import { writeDevices } from '../messages/store.ts'
import { tellTasks } from '../messages/tell-tasks.ts'
import { buildNothingDue, DEFAULT_MODULE, type Notice, type UplinkKind } from '../protocol/device.ts'
import { inEnglish, type Reason, reason } from '../reasons/reason.ts'
import { taskStub } from '../tasks/api/task-stub.ts'

const RETRY_AFTER_SECONDS = 2

const TOPICS: Record<UplinkKind, string> = {
  inform: 'POST /device/v1/inform',
  progress: 'POST /device/v1/progress',
  request: 'GET /device/v1/upgrade',
}

/**
 * Takes one message of a device over HTTPS, by the same code as a bridge's batch. Throws a 400 or 422 if it cannot be
 * read and a 403 if the device is disabled, both kept as rejections, and a 503 if a task could not be told.
 */
export async function receiveFromDevice(
  env: Env,
  sender: Sender,
  kind: UplinkKind,
  payload: Uint8Array,
  key: string,
  now: number,
): Promise<void> {
  const gathered = newGathered()
  gathered.results.push({ id: key, status: 'taken' })
  if (!sender.enabled) {
    await keep(env, gathered, sender, kind, payload, reason('sender_disabled'), now)
    throw disabled()
  }
  const why = gatherMessage(gathered, 0, sender, kind, payload, {
    from: TOPICS[kind],
    key,
    viaBridge: false,
  })
  if (why !== null) {
    await keep(env, gathered, sender, kind, payload, why, now)
    await tellTasks(env, gathered)
    const status = why.code === 'not_json' ? 400 : 422
    throw new AppError(status, 'message.unreadable', `The message cannot be read: ${inEnglish(why)}.`)
  }
  await keepRejections(env, gathered, now)
  gathered.seen.set(sender.id, { sender, heard: true })
  await writeDevices(env.DB, gathered, null, now)
  await tellTasks(env, gathered)
  if (gathered.results[0]?.status === 'retry') {
    throw new AppError(503, 'message.retry', 'The message could not be taken; send it again.', {
      retryAfterSeconds: RETRY_AFTER_SECONDS,
    })
  }
}

/** The notice that is due for the module, from the newest task that has one; else the answer that nothing is due. */
export async function dueNotice(
  env: Env,
  sender: Sender,
  name: string | null,
  id: string,
): Promise<Notice | ReturnType<typeof buildNothingDue>> {
  if (!sender.enabled) throw disabled()
  const module = name === null ? null : (knownModule(sender, name)?.module ?? name)
  const concerned = module === null ? defaultFirst(sender) : concernedTasks(sender, module)
  const asked = new Set<string>()
  let notice: Notice | null = null
  for (const { taskId } of concerned) {
    asked.add(taskId)
    notice = (await taskStub(env, taskId).handOut(sender.id)) as Notice | null
    if (notice) break
  }
  // Tasks that were not asked, for other modules, hear that the device is there.
  const gathered = newGathered()
  tellSeen(
    gathered,
    0,
    { ...sender, slots: sender.slots.filter(({ taskId }) => !asked.has(taskId)) },
    { key: id },
  )
  await tellTasks(env, gathered)
  return notice ?? buildNothingDue(id)
}

/** Without a module: whatever is due, the whole firmware first. */
function defaultFirst(sender: Sender) {
  const whole = concernedTasks(sender, DEFAULT_MODULE)
  const known = new Set(whole.map(({ taskId }) => taskId))
  return [...whole, ...concernedTasks(sender, null).filter(({ taskId }) => !known.has(taskId))]
}

const disabled = () => forbidden('The device is disabled.')

async function keep(
  env: Env,
  gathered: Gathered,
  sender: Sender,
  kind: UplinkKind,
  payload: Uint8Array,
  why: Reason,
  now: number,
): Promise<void> {
  gathered.rejected.push({ sender, topic: TOPICS[kind], payload, reason: why })
  await keepRejections(env, gathered, now)
}
