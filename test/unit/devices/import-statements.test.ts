import { expect, it } from 'vitest'
import { importDevices } from '../../../src/devices/import-devices.ts'

const QUERIES_OF_A_REQUEST = 1_000
/** As many rows as make a page of every kind: known with the same token, known with another, new. */
const ROWS = 90_000

/** A database in which two of three rows are known, and which counts what it is asked. */
function countingDatabase() {
  const asked = { statements: 0 }
  const statement = (parameter: string) => ({
    bind: (text: string) => statement(text),
    all: async () => {
      asked.statements += 1
      const rows = JSON.parse(parameter) as unknown[]
      const known = rows.flatMap((_, row) =>
        row % 3 === 2
          ? []
          : [
              {
                row,
                by: 'number',
                isOwn: 1,
                id: `dev_${row}`,
                name: null,
                accessToken: 'old',
                tags: '[]',
                basic: 0,
              },
            ],
      )
      return { results: known }
    },
  })
  const db = {
    prepare: () => statement(''),
    batch: async (statements: unknown[]) => {
      asked.statements += statements.length
      return statements.map(() => ({ results: [] }))
    },
  }
  return { db: db as unknown as D1Database, asked }
}

const tags = Array.from({ length: 20 }, (_, n) => `${n}`.padEnd(64, 'x'))

/** Rows as long as they can be; every third gives a token. */
function longRows(): ReadableStream<Uint8Array> {
  let row = 0
  return new ReadableStream({
    pull(controller) {
      if (row === ROWS) return controller.close()
      const number = `n${row}`.padEnd(64, 'x')
      const token = row % 3 === 1 ? { accessToken: `t${row}`.padEnd(64, 'x') } : {}
      row += 1
      const line = JSON.stringify({ number, name: 'y'.repeat(128), tags, ...token })
      controller.enqueue(new TextEncoder().encode(`${line}\n`))
    },
  })
}

it('a file of long rows ends, with a 413, before it takes more statements than D1 allows a request', async () => {
  const { db, asked } = countingDatabase()
  const product = { id: 'prd_1', tenantId: 'ten_1' }
  await expect(importDevices(db, product, longRows(), 'ndjson', 0, async () => {})).rejects.toMatchObject({
    status: 413,
    code: 'import.too_large',
  })
  expect(asked.statements).toBeGreaterThan(QUERIES_OF_A_REQUEST / 2)
  // Key, product, tasks, audit and the like need a few.
  expect(asked.statements).toBeLessThan(QUERIES_OF_A_REQUEST - 20)
})
