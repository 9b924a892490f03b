import { DrizzleQueryError } from 'drizzle-orm/errors'
import { expect, it } from 'vitest'
import { notOpened, platformFault } from '../../../src/common/platform-faults.ts'

const marked = (message: string, marks: object) => Object.assign(new Error(message), marks)

it.each([
  'D1_ERROR: D1 DB reset because its code was updated.',
  'D1_ERROR: Internal error while starting up D1 DB storage caused object to be reset.',
  'D1_ERROR: Network connection lost.',
  'D1_ERROR: Internal error in D1 DB storage caused object to be reset.',
  'D1_ERROR: Cannot resolve D1 DB due to transient issue on remote node.',
  "D1_ERROR: Can't read from request stream because client disconnected.",
  'D1_ERROR: Failed to parse body as JSON, got: error code: 1031',
  'D1_ERROR: database is locked: SQLITE_BUSY',
  'Durable Object reset because its code was updated.',
  'Connection closed: this Durable Object instance is no longer active. Reconnect or retry the request.',
  'Durable Object storage operation exceeded timeout which caused object to be reset.',
  'internal error; reference = 6nrpngvpl0jqk7hq5pmpg9c2',
  'Network connection lost.',
  'get: We encountered an internal error. Please try again. (10001)',
  'put: Service is temporarily unavailable. (10043)',
  'uploadPart: Client disconnected before request completed. (10054)',
  'head: Unspecified error (0)',
])('"%s" is a call that the platform lost', (message) => {
  expect(platformFault(new Error(message))).toBe('lost')
  expect(platformFault(new DrizzleQueryError('SELECT 1', [], new Error(message)))).toBe('lost')
})

it.each([
  'D1_ERROR: D1 DB is overloaded. Requests queued for too long.',
  'D1_ERROR: D1 DB is overloaded. Too many requests queued.',
  'D1_ERROR: D1 DB storage operation exceeded timeout which caused object to be reset.',
  "D1_ERROR: D1 DB's isolate exceeded its memory limit and was reset.",
  'D1_ERROR: D1 DB exceeded its CPU time limit and was reset.',
  "Durable Object's isolate exceeded its memory limit and was reset.",
  'Durable Object exceeded its CPU time limit and was reset.',
  'Durable Object is overloaded. Too much data queued.',
  'Durable Object is overloaded. Too many requests for the same object within a 10 second window.',
  'Your account is generating too much load on Durable Objects. Please back off and try again later.',
  'Your account is doing too many concurrent storage operations. Please back off and try again later.',
  'put: Reduce your concurrent request rate for the same object. (10058)',
])('"%s" is a part of the platform that is overloaded', (message) => {
  expect(platformFault(new Error(message))).toBe('overloaded')
})

it('an object that could not be opened lost the call, whatever its storage said', () => {
  expect(platformFault(notOpened(new Error('table task already exists: SQLITE_ERROR')))).toBe('lost')
  // Over RPC the cause may be left behind.
  expect(platformFault(new Error(notOpened(null).message))).toBe('lost')
})

it('the marks of an object count more than its text, and an overload more than that it may be retried', () => {
  expect(platformFault(marked('no good', { retryable: true }))).toBe('lost')
  expect(platformFault(marked('no good', { durableObjectReset: true }))).toBe('lost')
  expect(platformFault(marked('no good', { retryable: true, overloaded: true }))).toBe('overloaded')
  const ended = "Durable Object's isolate exceeded its memory limit and was reset."
  expect(platformFault(marked(ended, { durableObjectReset: true }))).toBe('overloaded')
})

it.each([
  'D1_ERROR: no such column: network at offset 7: SQLITE_ERROR',
  'D1_ERROR: UNIQUE constraint failed: tasks.name: SQLITE_CONSTRAINT',
  "D1_TYPE_ERROR: Type 'undefined' not supported for value 'undefined'",
  'D1_ERROR: Wrong number of parameter bindings for SQL query.',
  'Cannot read properties of undefined (reading "id")',
  'put: Your metadata headers exceed the maximum allowed metadata size. (10012)',
  'complete: One or more parts could not be found. (10025)',
  'no such task',
])('"%s" is no fault of the platform', (message) => {
  expect(platformFault(new Error(message))).toBeNull()
  expect(platformFault(new DrizzleQueryError("SELECT 'reset because'", [], new Error(message)))).toBeNull()
})

it('what is no error, and causes that go round, are no fault of the platform', () => {
  const round = new Error('one')
  round.cause = round
  for (const thrown of [null, undefined, 'Network connection lost.', {}, round]) {
    expect(platformFault(thrown)).toBeNull()
  }
})
