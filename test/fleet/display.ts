import type { TaskCounts } from '../../src/tasks/rules/task.ts'

const BAR_WIDTH = 30
const LINE_INTERVAL_MS = 3_000
const HIDE_CURSOR = '\x1b[?25l'
const SHOW_CURSOR = '\x1b[?25h'
const CLEAR_TO_END = '\x1b[0J'
const up = (lines: number) => `\x1b[${lines}F`

/** Live progress: in a terminal a block that is redrawn in place, elsewhere a line every few seconds. */
export interface Display {
  update(block: string[], line: string): void
  /** Ends the display; its last block or line stays. */
  end(): void
}

export function createDisplay(
  out: { isTTY?: boolean; write(text: string): unknown },
  now: () => number = () => performance.now(),
): Display {
  let drawn = 0
  let lastLine = ''
  let pendingLine = ''
  let lineAt = Number.NEGATIVE_INFINITY

  function writeLine(): void {
    if (pendingLine === lastLine) return
    out.write(`${pendingLine}\n`)
    lastLine = pendingLine
    lineAt = now()
  }

  return {
    update(block, line) {
      if (out.isTTY) {
        out.write(`${drawn > 0 ? up(drawn) : HIDE_CURSOR}${CLEAR_TO_END}${block.join('\n')}\n`)
        drawn = block.length
        return
      }
      pendingLine = line
      if (now() - lineAt >= LINE_INTERVAL_MS) writeLine()
    },
    end() {
      if (out.isTTY && drawn > 0) out.write(SHOW_CURSOR)
      if (!out.isTTY) writeLine()
      drawn = 0
    },
  }
}

const STATES = ['pending', 'pushed', 'upgrading', 'success', 'failure', 'cancelled'] as const

/** One bar for each state of a task's devices. */
export function bars(counts: TaskCounts): string[] {
  return STATES.map((state) => {
    const filled = counts.total === 0 ? 0 : Math.round((counts[state] / counts.total) * BAR_WIDTH)
    const bar = '█'.repeat(filled) + '░'.repeat(BAR_WIDTH - filled)
    return `  ${state.padEnd(10)} ${bar} ${number(counts[state]).padStart(8)}`
  })
}

/** The counts in one line, without the states that no device is in. */
export const inOneLine = (counts: TaskCounts) =>
  STATES.filter((state) => counts[state] > 0)
    .map((state) => `${number(counts[state])} ${state}`)
    .join(', ') || 'no devices yet'

/** `12,345` */
export const number = (value: number) => Math.round(value).toLocaleString('en-US')
export const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`
