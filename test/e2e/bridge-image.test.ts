import { type ChildProcess, spawn } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { type FakeWorker, startFakeWorker, until } from './fake-worker.ts'

// Works without Docker: copies what bridge/Dockerfile copies and starts it.

let worker: FakeWorker
let directory: string
let child: ChildProcess | undefined
beforeEach(async () => {
  worker = await startFakeWorker()
  directory = mkdtempSync(join(tmpdir(), 'image-'))
})
afterEach(async () => {
  child?.kill('SIGKILL')
  await worker.close()
  rmSync(directory, { recursive: true })
})

const linesOf = (file: string) => readFileSync(file, 'utf8').split('\n')
const ignored = linesOf('bridge/Dockerfile.dockerignore')
  .filter((line) => line.startsWith('bridge/'))
  .map((line) => new RegExp(`^${line.replaceAll('.', '\\.').replaceAll('*', '[^/]*')}$`))

/** Follows each COPY line as the build does, without the files of Dockerfile.dockerignore. */
function copyAsTheImage(): string[] {
  const copies = linesOf('bridge/Dockerfile').flatMap((line) => /^COPY (.+) (\S+)$/.exec(line) ?? [])
  for (let at = 0; at < copies.length; at += 3) {
    const [, sources = '', target = ''] = copies.slice(at, at + 3)
    for (const source of sources.split(' ')) {
      const into = target.endsWith('/')
        ? join(directory, target, source.split('/').at(-1)!)
        : join(directory, target)
      mkdirSync(join(into, '..'), { recursive: true })
      cpSync(source, into, { recursive: true, filter: (path) => !ignored.some((rule) => rule.test(path)) })
    }
  }
  return readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
}

it("the bridge runs with its image's files and without development packages", async () => {
  const files = copyAsTheImage()
  expect(files).toContain('bridge/main.ts')
  expect(files.filter((file) => /local|start|root-key/.test(file))).toEqual([])

  const { dependencies } = JSON.parse(readFileSync('package.json', 'utf8'))
  const imported = files.flatMap((file) =>
    [...readFileSync(join(directory, file), 'utf8').matchAll(/from '([^.'][^']*)'/g)].map(
      ([, name]) => name!,
    ),
  )
  const packages = imported.filter((name) => !name.startsWith('node:') && !builtinModules.includes(name))
  expect(packages.length).toBeGreaterThan(0)
  expect(packages.filter((name) => !(name in dependencies))).toEqual([])

  symlinkSync(join(process.cwd(), 'node_modules'), join(directory, 'node_modules'))
  let output = ''
  const running = spawn(process.execPath, ['bridge/main.ts'], {
    cwd: directory,
    env: { PATH: process.env.PATH, WORKER_URL: worker.url, BRIDGE_KEY: worker.key, MQTT_PORT: '0' },
  })
  child = running
  for (const stream of [running.stdout, running.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk
    })
  }
  await until('the bridge', () => {
    if (running.exitCode !== null) throw new Error(output)
    return output.includes('the bridge runs')
  })
  const ended = new Promise((resolve) => running.once('exit', resolve))
  running.kill('SIGTERM')
  expect(await ended).toBe(0)
})
