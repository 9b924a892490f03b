import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { freePort } from './mosquitto.ts'

const START_WITHIN_MS = 60_000

/** A real Mosquitto without the plugin on a free port; `lines` are its whole configuration. */
export interface PlainMosquitto {
  port: number
  /** Makes it reread its configuration and accounts. */
  reload(): void
  kill(): Promise<void>
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('error', () => resolve(false))
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
  })
}

export async function startPlainMosquitto(directory: string, lines: string[]): Promise<PlainMosquitto> {
  mkdirSync(directory, { recursive: true })
  const port = await freePort()
  const file = join(directory, 'plain.conf')
  // Started as root, Mosquitto would change to a user without access to the test's directory.
  const user = process.getuid?.() === 0 ? ['user root'] : []
  writeFileSync(file, [`listener ${port} 127.0.0.1`, ...user, ...lines, ''].join('\n'))
  const child: ChildProcess = spawn('mosquitto', ['-c', file], {
    stdio: 'ignore',
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` },
  })
  const ended = new Promise((resolve) => child.once('exit', resolve))
  const deadline = performance.now() + START_WITHIN_MS
  while (!(await isOpen(port))) {
    if (performance.now() > deadline || child.exitCode !== null) throw new Error('mosquitto does not start')
    await pause(20)
  }
  return {
    port,
    reload: () => child.kill('SIGHUP'),
    async kill() {
      child.kill('SIGKILL')
      await ended
    },
  }
}
