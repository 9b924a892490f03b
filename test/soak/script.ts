/** The messages of one device after its notice, and its expected state in the task afterwards. */
export interface Script {
  /** `heardAs`: the message as the device's history shows it. */
  messages: { topic: string; body: object; mark: string; heardAs: string }[]
  ends: { status: 'success' | 'failure' | 'upgrading'; step: number }
}

/** The id of the version report that a device sends before its script. */
export const GREETING = 'hello'

const INFORM = 'ota/device/inform'
const PROGRESS = 'ota/device/progress'
const FAILS_EVERY = 10
const STAYS_EVERY = 7

/**
 * Makes the script of a device. Progress never goes back and each message has a mark of its own, so that a lost or
 * misplaced message shows in the end.
 */
export function scriptOf(device: number, count: number, target: string): Script {
  const fails = device % FAILS_EVERY === 1
  const stays = !fails && device % STAYS_EVERY === 2
  const messages: Script['messages'] = []
  const say = (step: number) => {
    const mark = `m${messages.length}`
    messages.push({
      topic: PROGRESS,
      body: { step: String(step), desc: mark },
      mark,
      heardAs: `${step} ${mark}`,
    })
    return step
  }
  const report = () => {
    const mark = `m${messages.length}`
    messages.push({ topic: INFORM, body: { id: mark, params: { version: target } }, mark, heardAs: target })
  }
  const last = fails || stays ? 1 : 2
  let step = 0
  for (let n = 0; n < count - last; n++) step = say(Math.floor((n * 99) / Math.max(1, count - last)))
  if (fails) return { messages, ends: { status: 'failure', step: say(-3) } }
  if (stays) return { messages, ends: { status: 'upgrading', step: say(Math.max(step, 99)) } }
  say(100)
  report()
  return { messages, ends: { status: 'success', step: 100 } }
}
