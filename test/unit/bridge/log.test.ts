import { expect, it } from 'vitest'
import { createLog, errorFields, limited } from '../../../bridge/log.ts'

function logged(write: (log: ReturnType<typeof createLog>) => void, level = 'info') {
  const lines: string[] = []
  write(createLog(level, { write: (line) => lines.push(line) }))
  return lines.map((line) => JSON.parse(line))
}

it('a log line has time, level, code, the fields of the call and a message', () => {
  const lines = logged((log) => log.warn({ code: 'bridge.spool_full', times: 3 }, 'the spool is full'))
  expect(lines).toEqual([
    {
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      level: 'warn',
      code: 'bridge.spool_full',
      times: 3,
      message: 'the spool is full',
    },
  ])
})

it('an unexpected error is logged as text with its stack', () => {
  const [line] = logged((log) =>
    log.error(
      { code: 'bridge.uplink_failed', ...errorFields(new TypeError('no disk')) },
      'the uplink failed',
    ),
  )
  expect(line).toMatchObject({ level: 'error', error: 'TypeError: no disk' })
  expect(line.stack).toContain('log.test.ts')
  expect(errorFields('odd')).toEqual({ error: 'odd' })
})

it('secrets are censored even if a log call passes them', () => {
  const [line] = logged((log) =>
    log.info({ code: 'bridge.active', username: 'hidden', request: { url: 'hidden' } }, 'active'),
  )
  expect(JSON.stringify(line)).not.toContain('hidden')
})

it('the log level hides lines below it', () => {
  expect(logged((log) => log.info({ code: 'bridge.active' }, 'active'), 'warn')).toEqual([])
})

it('a limited log call writes the first time, then only counts', () => {
  const written: number[] = []
  const log = limited((times) => written.push(times), 60_000)
  for (let n = 0; n < 5; n++) log()
  expect(written).toEqual([1])
})
