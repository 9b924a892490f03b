import { readFileSync } from 'node:fs'
import { parseEnv } from 'node:util'
import { makePrivateFile, writePrivateFile } from '../private-files.ts'

/** Returns the file's variables; none if there is no file. */
export function readDevVars(file: string): Record<string, string | undefined> {
  return parseEnv(readText(file))
}

/** Sets variables in the file, which is then readable by its owner alone; all its other lines stay as they are. */
export function writeDevVars(file: string, changes: Record<string, string>): void {
  const names = Object.keys(changes)
  if (names.length === 0) {
    makePrivateFile(file)
    return
  }
  const kept = readText(file)
    .split('\n')
    .filter((line) => !names.some((name) => new RegExp(`^\\s*(export\\s+)?${name}\\s*=`).test(line)))
  while (kept.at(-1) === '') kept.pop()
  const added = names.map((name) => `${name}=${changes[name]}`)
  writePrivateFile(file, [...kept, ...added, ''].join('\n'))
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ''
    throw error
  }
}
