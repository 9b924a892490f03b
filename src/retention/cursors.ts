// Where a sweep goes on, and what was said once: one row a name.

export async function readCursor(d1: D1Database, name: string): Promise<string> {
  const row = await d1
    .prepare('SELECT cursor FROM sweeps WHERE name = ?')
    .bind(name)
    .first<{ cursor: string }>()
  return row?.cursor ?? ''
}

export const writeCursor = (d1: D1Database, name: string, cursor: string) =>
  d1
    .prepare('INSERT INTO sweeps (name, cursor) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET cursor = ?2')
    .bind(name, cursor)
    .run()
