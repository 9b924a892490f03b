import type { Env } from '../common/env.ts'
import { errorFields, logError } from '../common/log.ts'
import { hubStub } from '../hub/hub.ts'
import { type Concerned, concernedTasks } from '../messages/concerned.ts'
import type { Ask, Gathered } from '../messages/gather.ts'
import { retry } from '../messages/tell-tasks.ts'
import { buildNothingDue, downlinkTopic } from '../protocol/device.ts'
import { taskStub } from '../tasks/api/task-stub.ts'

/** The requests of one device for one module, which one look answers. */
interface Question {
  /** The latest. */
  ask: Ask
  all: Ask[]
  tasks: Concerned[]
}

/** The newest task with a due notice sends it. If no task has one, the device is told so, under its requests' ids. */
export async function answerAsks(env: Env, gathered: Gathered): Promise<void> {
  const taken = gathered.asks.filter(({ item }) => gathered.results[item]?.status === 'taken')
  const open = new Set(questionsOf(taken))
  // In rounds, so that one call to a task serves all devices that ask it.
  for (let round = 0; [...open].some(({ tasks }) => tasks.length > round); round++) {
    const asking = [...open].filter(({ tasks }) => tasks.length > round)
    await Promise.all(
      [...Map.groupBy(asking, ({ tasks }) => tasks[round]!.taskId)].map(async ([taskId, group]) => {
        try {
          const asks = group.map(({ ask }) => ({ deviceId: ask.sender.id, key: ask.key }))
          const due = new Set(await taskStub(env, taskId).ask(asks))
          for (const question of group) if (due.has(question.ask.sender.id)) open.delete(question)
        } catch (error) {
          logError('receive.ask_failed', { taskId, ...errorFields(error) })
          for (const question of group) {
            for (const { item } of question.all) retry(gathered.results, item)
            open.delete(question)
          }
        }
      }),
    )
  }
  await replyNothingDue(env, [...open])
}

const questionsOf = (asks: Ask[]): Question[] =>
  [...Map.groupBy(asks, ({ sender, module }) => `${sender.id} ${module ?? ''}`).values()].map((all) => {
    const ask = all.at(-1)!
    return { ask, all, tasks: concernedTasks(ask.sender, ask.module) }
  })

/** One call to each hub, and one answer for each id. */
async function replyNothingDue(env: Env, questions: Question[]): Promise<void> {
  await Promise.all(
    [...Map.groupBy(questions, ({ ask }) => ask.sender.hub)].map(([hub, group]) =>
      hubStub(env, hub).replyToAll(answersTo(group)),
    ),
  )
}

/** In the order in which the requests came. */
function answersTo(questions: Question[]): { topic: string; payload: string }[] {
  const asks = questions.flatMap(({ all }) => [...new Map(all.map((ask) => [ask.requestId, ask])).values()])
  return asks
    .sort((a, b) => a.item - b.item)
    .map(({ sender, requestId }) => ({
      topic: downlinkTopic(sender),
      payload: JSON.stringify(buildNothingDue(requestId)),
    }))
}
