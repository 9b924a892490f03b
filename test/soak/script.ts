/** What one device says, from its notice on, and what its task has to say of it afterwards. */
export interface Script {
  /** `heardAs`: how the device's history says it. */
  messages: { topic: string; body: object; mark: string; heardAs: string }[]
  ends: { status: 'success' | 'failure' | 'upgrading'; step: number }
}

/** The id of what a device says before its script begins. */
export const GREETING = 'hello'

const INFORM = 'ota/device/inform'
const PROGRESS = 'ota/device/progress'
const FAILS_EVERY = 10
const STAYS_EVERY = 7

/** Progress never goes back, and each message says which one it is: what is lost or out of order shows at the end. */
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
