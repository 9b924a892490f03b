import { parseArgs } from 'node:util'
import { billOf, difference, perMillion, totalOf } from './bill.ts'
import { MESSAGES_EACH, playCampaign, reports } from './campaign.ts'
import { makeFleet } from './fleet.ts'
import { startLocal } from './local.ts'
import { watchMemory } from './memory.ts'
import { connectPlayer } from './player.ts'
import { PRICES_OF } from './prices.ts'

// `npm run bench:million`: one task over a million devices, after the same with 1,000, 10,000 and 100,000.

const { sizes, batch } = parseArgs({
  options: {
    sizes: { type: 'string', default: '1000,10000,100000,1000000' },
    batch: { type: 'string', default: '100' },
  },
}).values
const BATCH = { batchSize: Number(batch), inFlight: 4 }
const MB = 1e6

async function run(devices: number) {
  const local = await startLocal({ isMetered: true })
  const player = await connectPlayer(local)
  const fleet = await makeFleet(local, devices)
  // As in the field, every device has reported its version before.
  await player.say(reports(fleet, 'v1.0.0'), 1000, 2)
  const before = local.stored()
  await local.resetCounters()
  const memory = watchMemory(local)
  const campaign = await playCampaign(local, player, fleet, BATCH)
  const counted = await local.counters()
  await player.say(reports(fleet, 'v2.0.0'), BATCH.batchSize, BATCH.inFlight)
  const informs = difference(await local.counters(), counted)
  const peak = await memory.stop()
  const after = local.stored()
  const { counts } = await local.api.task(campaign.taskId)
  const isExact = counts.success === devices && counts.total === devices && player.notices.size === devices
  await player.close()
  await local.close()
  const bill = perMillion(billOf(counted, devices), devices)
  return {
    devices,
    isExact,
    seconds: campaign.seconds,
    messagesPerSecond: campaign.messagesPerSecond,
    bill,
    usdPerMillion: totalOf(bill),
    usdOfReports: totalOf(perMillion(billOf(informs, 0), devices)),
    rowsPerDevice: (counted.objectRowsWritten + counted.d1RowsWritten) / devices,
    written: Object.entries(counted.written)
      .sort(([, a], [, b]) => b - a)
      .slice(0, 8),
    peak,
    objectsMb: (after.objects - before.objects) / MB,
    d1Mb: after.d1 / MB,
  }
}

const number = (value: number, digits = 2) => value.toFixed(digits)

console.log(
  `Batches of ${BATCH.batchSize}, ${MESSAGES_EACH} messages a device, prices of ${PRICES_OF}, dollars a million devices.\n`,
)
console.log(
  '| devices | exact | notices s | messages s | finished s | messages/s | rows/device | USD/million | version reports | heap MiB | workerd MiB | object MB | D1 MB |',
)
console.log(`|${'---|'.repeat(13)}`)
let last: Awaited<ReturnType<typeof run>> | undefined
for (const devices of sizes.split(',').map(Number)) {
  last = await run(devices)
  const { seconds, peak } = last
  const cells = [
    devices,
    last.isExact ? 'yes' : 'NO',
    number(seconds.notices, 1),
    number(seconds.messages, 1),
    number(seconds.finished, 1),
    last.messagesPerSecond,
    number(last.rowsPerDevice),
    number(last.usdPerMillion),
    number(last.usdOfReports),
    number(peak.heapMiB, 0),
    number(peak.residentMiB, 0),
    number(last.objectsMb, 1),
    number(last.d1Mb, 1),
  ]
  console.log(`| ${cells.join(' | ')} |`)
}
if (last) {
  console.log('\n| part | USD a million devices |\n|---|---|')
  for (const [part, cost] of Object.entries(last.bill)) console.log(`| ${part} | ${number(cost, 3)} |`)
  console.log('\n| rows a device | by |\n|---|---|')
  for (const [name, rows] of last.written) console.log(`| ${number(rows / last.devices, 3)} | \`${name}\` |`)
}
process.exit(last?.isExact ? 0 : 1)
