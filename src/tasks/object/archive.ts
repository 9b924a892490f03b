import type { TaskContext } from '../effects/task-context.ts'
import type { Sample } from '../storage/task-journal.ts'
import { putStream } from './put-stream.ts'
import { reportCsv } from './report-csv.ts'
import { devicePage, type TaskView, taskView } from './task-view.ts'

// What stays of a task in R2 when its object is gone: its summary, and its report as CSV.

/** A task as its pages showed it last, and its counts over time. */
export interface Summary {
  view: TaskView
  samples: Sample[]
}

interface ArchivedTask {
  id: string
  tenantId: string
}

const keyOf = ({ id, tenantId }: ArchivedTask, file: string) => `archive/${tenantId}/${id}/${file}`
const SUMMARY = 'summary.json'
const REPORT = 'report.csv'

/** Undefined if there is none. */
export async function readSummary(bucket: R2Bucket, task: ArchivedTask): Promise<Summary | undefined> {
  const object = await bucket.get(keyOf(task, SUMMARY))
  return object ? object.json<Summary>() : undefined
}

/** Undefined if there is none. */
export async function readReport(bucket: R2Bucket, task: ArchivedTask): Promise<ReadableStream | undefined> {
  return (await bucket.get(keyOf(task, REPORT)))?.body
}

export const deleteArchive = (bucket: R2Bucket, task: ArchivedTask) =>
  bucket.delete([keyOf(task, SUMMARY), keyOf(task, REPORT)])

/** Writes both, the summary last; if it is cut off it is done again from the start. */
export async function writeArchive(task: TaskContext): Promise<void> {
  const { env, spec, journal } = task
  const report = await reportCsv(async (after, limit) => devicePage(task, { after, limit }))
  await putStream(env.PACKAGES, keyOf(spec, REPORT), report)
  const summary: Summary = { view: taskView(task), samples: journal.readSamples() }
  await env.PACKAGES.put(keyOf(spec, SUMMARY), JSON.stringify(summary))
}
