import { readFileSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { expect, it } from 'vitest'

const apply = (db: DatabaseSync, name: string) => db.exec(readFileSync(`migrations/${name}.sql`, 'utf8'))

it('the migration enters each existing device into the log of credential changes once', () => {
  const db = new DatabaseSync(':memory:')
  for (const name of ['0000_init', '0001_rollouts', '0002_leases']) apply(db, name)
  const insert = db.prepare(
    `INSERT INTO devices (id, tenant_id, product_id, number, access_token, created_at) VALUES (?1, 't', 'p', ?1, ?1, 0)`,
  )
  for (let device = 0; device < 100; device++) insert.run(`dev-${device}`)
  apply(db, '0003_credentials')
  insert.run('later')
  const figures = db.prepare(
    'SELECT count(*) AS devices, count(DISTINCT seq) AS numbers, max(seq) AS newest FROM credential_changes',
  )
  expect({ ...figures.get() }).toEqual({ devices: 101, numbers: 101, newest: 101 })
  db.close()
})
