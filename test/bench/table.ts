import { spread } from './statistics.ts'

const WORDS: Record<string, string> = {
  publishToSpool: 'publish to spool',
  spoolToWorker: 'spool to Worker',
  perBatch: 'messages a batch',
  written: 'into it',
  drained: 'out of it, by 1000',
  rest: 'at rest',
  filling: 'most while it fills',
  draining: 'most while it empties',
  after: 'after',
}

/** Prints a Markdown table: for each row and column the median of the runs and their spread. */
export function printTable(what: string, rows: Record<string, Record<string, number[]>>): void {
  const columns = Object.keys(Object.values(rows)[0] ?? {})
  console.log(`| ${[what, ...columns.map((column) => WORDS[column] ?? column)].join(' | ')} |`)
  console.log(`|${'---|'.repeat(columns.length + 1)}`)
  for (const [name, figures] of Object.entries(rows)) {
    console.log(`| ${[name, ...columns.map((column) => spread(figures[column]!))].join(' | ')} |`)
  }
}
