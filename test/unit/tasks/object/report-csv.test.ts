import { expect, it } from 'vitest'
import { reportCsv } from '../../../../src/tasks/object/report-csv.ts'
import type { DeviceSummary } from '../../../../src/tasks/object/task-view.ts'

const device = (more: Partial<DeviceSummary>): DeviceSummary => ({
  deviceId: 'dev_1',
  number: 'n1',
  name: null,
  module: 'default',
  fromVersion: 'v1',
  targetVersion: 'v2',
  status: 'success',
  step: 100,
  description: null,
  because: null,
  code: null,
  cause: null,
  pushes: 1,
  attempt: 1,
  rolledBack: false,
  updatedAt: '2026-01-01T00:00:00.000Z',
  ...more,
})

const read = async (pages: DeviceSummary[][]) =>
  new Response(
    await reportCsv(async (after) => {
      const index = Number(after)
      return { items: pages[index] ?? [], nextCursor: index + 1 < pages.length ? String(index + 1) : null }
    }),
  ).text()

it('the CSV report has one line for each device of every page', async () => {
  const text = await read([[device({})], [device({ number: 'n2', step: null, name: 'lamp' })]])
  expect(text.split('\r\n')).toEqual([
    'number,name,module,fromVersion,targetVersion,status,step,description,pushes,attempt,rolledBack,updatedAt,code,cause',
    'n1,,default,v1,v2,success,100,,1,1,false,2026-01-01T00:00:00.000Z,,',
    'n2,lamp,default,v1,v2,success,,,1,1,false,2026-01-01T00:00:00.000Z,,',
    '',
  ])
})

it('the CSV report quotes special characters and disarms formulas', async () => {
  const text = await read([
    [device({ name: 'a "b", c' }), ...['=1+1', '+1', '-1', '@x', '\tx'].map((name) => device({ name }))],
  ])
  const names = text
    .split('\r\n')
    .slice(1, -1)
    .map((line) => line.replace(/^n1,(.*),default,.*$/, '$1'))
  expect(names).toEqual(['"a ""b"", c"', "'=1+1", "'+1", "'-1", "'@x", "'\tx"])
})

it('the CSV report disarms a negative step too, and quotes a line break of any kind', async () => {
  const text = await read([[device({ step: -3, name: 'a\nb', description: '\rx' })]])
  expect(text.split('\r\n')[1]).toBe(
    'n1,"a\nb",default,v1,v2,success,\'-3,"\'\rx",1,1,false,2026-01-01T00:00:00.000Z,,',
  )
})
