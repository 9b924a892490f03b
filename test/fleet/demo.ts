import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { Api } from './api-client.ts'
import type { DevicePlan } from './behaviour.ts'
import type { DeviceIdentity } from './device.ts'
import { createDisplay, inOneLine, seconds } from './display.ts'
import { makeFirmware } from './firmware.ts'
import { type Fleet, startFleet } from './fleet.ts'
import { identitiesOf, toCsv } from './identities.ts'
import { interruptSignal } from './interrupt.ts'
import { ensureMaker } from './maker.ts'
import { connectApi, findTarget } from './target.ts'
import type { Trust } from './verify.ts'
import { watchTask } from './watch.ts'

// `npm run demo` plays one upgrade, from a new product to the report, and shows the API call of each step.

const DEVICES = 20
const FIRMWARE_BYTES = 1_000_000
const OLD_VERSION = 'v1.0.0'
const NEW_VERSION = 'v1.1.0'
const STEP_MS = 600
const OFFLINE_MS = 3_000
const LATE_MS = 6_000
const REPORTS_WITHIN_MS = 20_000
const POLL_INTERVAL_MS = 200
const MAX_SHOWN_BODY = 160
const SHOWN_REPORT_LINES = 4

const HELP = `Shows one upgrade against a running \`npm start\`: ${DEVICES} simulated devices, a package, a task, the report.

  --url URL   the API (default: http://127.0.0.1:$PORT or :8787)
  --mqtt URL  the broker (default: mqtt://127.0.0.1:$MQTT_PORT or :1883)
  --key KEY   an admin’s key (default: $ADMIN_KEY, or that of .dev.vars)
  --help      print this`

/** Incidents by index of the device; the others upgrade without trouble. */
const INCIDENTS: Partial<Record<number, Partial<DevicePlan>>> = {
  3: { fate: -3 },
  7: { cutDownload: true },
  11: { offlineMs: OFFLINE_MS },
  15: { fate: -2 },
  19: { lateMs: LATE_MS },
}

let stepNumber = 0
function say(text: string): void {
  stepNumber++
  console.log(`\n${stepNumber}. ${text}`)
}

function showCall(method: string, path: string, body: unknown): void {
  // GETs are mostly polling and would bury the rest.
  if (method === 'GET') return
  console.log(`     ${method} ${path}`)
  if (body instanceof Uint8Array) console.log(`       ${body.byteLength} bytes`)
  else if (typeof body === 'string') console.log(`       ${body.split('\n', 1)[0]} …`)
  else if (body !== undefined) {
    const text = JSON.stringify(body)
    console.log(`       ${text.length > MAX_SHOWN_BODY ? `${text.slice(0, MAX_SHOWN_BODY)} …` : text}`)
  }
}

/** Waits until the server has the version reports of `count` devices. */
async function untilReported(api: Api, productId: string, count: number, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + REPORTS_WITHIN_MS
  while (performance.now() < deadline) {
    const { items } = await api.devices(`productId=${productId}&version=${OLD_VERSION}&limit=200`)
    if (items.length >= count) return
    await delay(POLL_INTERVAL_MS, undefined, { signal })
  }
  throw new Error('The devices’ version reports did not arrive.')
}

async function prepare(
  api: Api,
  key: string,
): Promise<{ packageId: string; productId: string; devices: DeviceIdentity[]; trust: Trust }> {
  say('A product: a kind of device. Its firmware must be signed.')
  const at = new Date().toISOString().slice(0, 19)
  const product = await api.createProduct({ name: `Demo ${at}`, requireSignature: true })
  console.log(`     → ${product.id}`)

  say(
    "The public half of the maker's key. The devices have it built in, too; the private half stays with the maker.",
  )
  const maker = await ensureMaker(api, product, key)
  console.log(`     → ${maker.keyId}`)

  say(`${DEVICES} devices of it, as a CSV file. A device's AccessToken is what it connects with.`)
  const devices = identitiesOf(DEVICES, product.id, key)
  const { created } = await api.importDevices(product.id, toCsv(devices))
  console.log(`     → ${created} created`)

  say(`A package: firmware ${NEW_VERSION}, first what it is, with the maker's signature, then its file.`)
  const file = makeFirmware(NEW_VERSION, FIRMWARE_BYTES)
  const draft = await api.createPackage({
    productId: product.id,
    name: `Demo firmware ${NEW_VERSION}`,
    version: NEW_VERSION,
    signature: maker.sign(NEW_VERSION, 'default', file),
  })
  const pkg = await api.uploadFile(draft.id, 'demo.bin', file)
  console.log(
    `     → ${pkg.state}, ${pkg.size} bytes, ${pkg.signMethod} ${pkg.sign?.slice(0, 16)}…, signature verified`,
  )
  return { packageId: pkg.id, productId: product.id, devices, trust: maker.trust }
}

async function follow(api: Api, taskId: string, fleet: Fleet, signal: AbortSignal): Promise<void> {
  const display = createDisplay(process.stdout)
  console.log(`     GET /api/v1/tasks/${taskId}, again and again`)
  const { counts } = await watchTask(api, taskId, fleet, display, signal).finally(display.end)
  console.log(`     → ${inOneLine(counts)}`)
}

async function demo(api: Api, key: string, mqttUrl: string, signal: AbortSignal): Promise<void> {
  const { packageId, productId, devices, trust } = await prepare(api, key)

  say(`The devices switch on: each connects to ${mqttUrl}, subscribes to ota/device/inform/{AccessToken}`)
  console.log(
    `   and publishes {"params":{"version":"${OLD_VERSION}"}} on ota/device/inform. One comes late.`,
  )
  const fleet = startFleet({
    mqttUrl,
    devices,
    behaviour: { version: OLD_VERSION, stepMs: STEP_MS, fateTimes: 1, trust },
    plan: (_device, index) => INCIDENTS[index] ?? {},
  })
  try {
    const late = Object.values(INCIDENTS).filter((plan) => plan?.lateMs).length
    await untilReported(api, productId, DEVICES - late, signal)
    console.log(
      `     → ${DEVICES - late} devices run ${OLD_VERSION}: GET /api/v1/devices?productId=${productId}`,
    )

    say('A task: this package, for all devices, now.')
    const task = await api.createTask({
      packageId,
      name: `Demo upgrade to ${NEW_VERSION}`,
      devices: 'all',
    })
    console.log(`     → ${task.id}`)

    say('Each device gets its notice, downloads, checks digest and signature, and reports its progress.')
    await follow(api, task.id, fleet, signal)

    say('Two had trouble, as planned:')
    console.log(`     GET /api/v1/tasks/${task.id}/devices?status=failure`)
    for await (const device of api.taskDevices(task.id, '?status=failure')) {
      console.log(`     → ${device.number}: ${device.description}`)
    }

    say('They get another try.')
    const { retried } = await api.retryTask(task.id)
    console.log(`     → ${retried} retried`)
    await follow(api, task.id, fleet, signal)

    say('The report, as a file for people:')
    console.log(`     GET /api/v1/tasks/${task.id}/report.csv`)
    const lines = (await api.report(task.id)).trimEnd().split('\n')
    for (const line of lines.slice(0, SHOWN_REPORT_LINES)) console.log(`     → ${line}`)
    console.log(`     → … ${lines.length - 1} devices in all`)
  } finally {
    fleet.stop()
  }
}

const signal = interruptSignal()
try {
  const string = { type: 'string' as const }
  const { values } = parseArgs({
    options: { url: string, mqtt: string, key: string, help: { type: 'boolean' } },
  })
  if (values.help) console.log(HELP)
  else {
    const begun = performance.now()
    const target = findTarget(values)
    const api = await connectApi(target, showCall)
    await demo(api, target.key, target.mqttUrl, signal)
    console.log(`\nDone in ${seconds(performance.now() - begun)}. All calls: ${target.url}/docs`)
  }
} catch (error) {
  console.error(signal.aborted ? '\nInterrupted.' : (error as Error).message)
  process.exitCode = 1
}
