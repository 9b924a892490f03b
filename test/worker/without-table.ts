import { env } from 'cloudflare:workers'

/** Does `work` while the database has no such table, and puts it back whatever happens: other tests share it. */
export async function withoutTable<T>(table: string, work: () => Promise<T>): Promise<T> {
  await env.DB.exec(`ALTER TABLE ${table} RENAME TO ${table}_away`)
  try {
    return await work()
  } finally {
    await env.DB.exec(`ALTER TABLE ${table}_away RENAME TO ${table}`)
  }
}
