import { DrizzleQueryError } from 'drizzle-orm'
import { expect, it, onTestFinished, vi } from 'vitest'
import { errorFields, logError, logWarning } from '../../../src/common/log.ts'

function logged(level: 'error' | 'warn') {
  const spy = vi.spyOn(console, level).mockImplementation(() => {})
  onTestFinished(() => spy.mockRestore())
  return () => spy.mock.calls.map(([text]) => text as string)
}

it('writes an error as one line of JSON with its level, code and fields', () => {
  const lines = logged('error')
  logError('hub.alarm', { hub: '*/default', text: 'two\nlines' })
  expect(lines()).toEqual(['{"level":"error","code":"hub.alarm","hub":"*/default","text":"two\\nlines"}'])
})

it('writes a warning without fields to the console as a warning', () => {
  const lines = logged('warn')
  logWarning('access.settings_invalid')
  expect(lines()).toEqual(['{"level":"warn","code":"access.settings_invalid"}'])
})

it('describes an error by name, message, cause and the first line of its stack', () => {
  const fields = errorFields(new TypeError('no', { cause: new Error('why') }))
  expect(fields).toMatchObject({ error: 'TypeError', message: 'no', cause: 'why' })
  expect(fields.at).toMatch(/^at .*log\.test\.ts/)
})

it('quotes no parameter of a failed query, and says by its cause what went wrong', () => {
  const token = 'T0ken\n    at T0ken'
  const failed = new DrizzleQueryError('select ?', [token], new Error('D1_ERROR: no such table'))
  expect(failed.message).toContain('T0ken')
  const fields = errorFields(failed)
  expect(fields).toMatchObject({ message: 'Failed query', cause: 'D1_ERROR: no such table' })
  expect(JSON.stringify(fields)).not.toContain('T0ken')
})

it('quotes no parameter of a failed query that another object threw, or that is a cause or a mere text', () => {
  const text = 'Error: Failed query: select ?\nparams: T0ken'
  const all = [new Error(text), new Error('outer', { cause: new Error(text) }), text].map(errorFields)
  expect(JSON.stringify(all)).not.toContain('T0ken')
})

it('describes what is no error by its type and text', () => {
  expect(errorFields('gone')).toEqual({ error: 'string', message: 'gone' })
  expect(errorFields(undefined)).toEqual({ error: 'undefined', message: 'undefined' })
})
