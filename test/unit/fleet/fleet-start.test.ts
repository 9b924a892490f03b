import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { keepKeys } from '../../../bridge/local/database.ts'
import { readDevVars, writeDevVars } from '../../../bridge/local/dev-vars.ts'
import { checkPort } from '../../../bridge/local/ports.ts'
import { readSettings } from '../../../bridge/local/settings.ts'
import { isKey } from '../../../src/auth/key.ts'

let directory: string
let file: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'start-'))
  file = join(directory, '.dev.vars')
})
afterEach(() => rmSync(directory, { recursive: true }))

const mode = () => statSync(file).mode & 0o777

describe('.dev.vars', () => {
  it('.dev.vars is created with both keys and is readable by its owner alone', () => {
    const keys = keepKeys(file)
    expect(isKey(keys.adminKey) && isKey(keys.bridgeKey)).toBe(true)
    expect(readDevVars(file)).toEqual({ ADMIN_KEY: keys.adminKey, BRIDGE_KEY: keys.bridgeKey })
    expect(mode()).toBe(0o600)
  })

  it('.dev.vars keeps its keys from start to start', () => {
    expect(keepKeys(file)).toEqual(keepKeys(file))
  })

  it('.dev.vars keeps its other lines and becomes readable by its owner alone', () => {
    writeFileSync(file, '# mine\nFOO="a b"\n\nADMIN_KEY=nonsense\nMY_ADMIN_KEY=1\n')
    chmodSync(file, 0o644)
    const { adminKey, bridgeKey } = keepKeys(file)
    expect(readFileSync(file, 'utf8')).toBe(
      `# mine\nFOO="a b"\n\nMY_ADMIN_KEY=1\nADMIN_KEY=${adminKey}\nBRIDGE_KEY=${bridgeKey}\n`,
    )
    expect(mode()).toBe(0o600)
  })

  it('.dev.vars gets a new key only for one that is missing', () => {
    const before = keepKeys(file)
    writeDevVars(file, { ADMIN_KEY: '' })
    const after = keepKeys(file)
    expect(after.bridgeKey).toBe(before.bridgeKey)
    expect(after.adminKey).not.toBe(before.adminKey)
  })
})

describe('the settings of npm start', () => {
  it('npm start listens on this machine alone unless HOST says otherwise', () => {
    expect(readSettings({ PORT: '' }, '/somewhere')).toMatchObject({
      host: '127.0.0.1',
      publicUrl: 'http://127.0.0.1:8787',
      workerUrl: 'http://127.0.0.1:8787',
      mqttUrl: 'mqtt://127.0.0.1:1883',
      spoolFile: '/somewhere/.wrangler/bridge/spool.db',
    })
    const onNetwork = readSettings({ HOST: '192.0.2.7', PORT: '9000', MQTT_PORT: '9001' }, '/', 5000)
    expect(onNetwork).toMatchObject({
      isOpen: true,
      publicUrl: 'http://192.0.2.7:9000',
      mqttUrl: 'mqtt://192.0.2.7:9001',
      workerUrl: 'http://127.0.0.1:5000',
    })
    const everywhere = readSettings({ HOST: '0.0.0.0', PUBLIC_URL: 'http://ota.example:80/' }, '/', 5000)
    expect(everywhere).toMatchObject({
      isOpen: true,
      publicUrl: 'http://ota.example:80',
      workerUrl: 'http://127.0.0.1:5000',
    })
    // Behind a proxy on this machine, whose visitors would be on loopback too.
    expect(readSettings({ PUBLIC_URL: 'https://ota.example' }, '/', 5000)).toMatchObject({
      host: '127.0.0.1',
      isOpen: true,
      workerUrl: 'http://127.0.0.1:5000',
    })
    expect(readSettings({ PUBLIC_URL: 'http://localhost:9000' }, '/').isOpen).toBe(false)
    expect(readSettings({ HOST: '::1' }, '/')).toMatchObject({
      isOpen: false,
      workerUrl: 'http://[::1]:8787',
    })
  })

  it('npm start opens no broker port if it joins another broker', () => {
    expect(readSettings({ MQTT_URL: 'mqtt://broker' }, '/')).toMatchObject({
      mqttPort: undefined,
      mqttUrl: 'mqtt://broker',
    })
  })

  it('npm start names every fault of its settings', () => {
    expect(() => readSettings({ PORT: '99999', PUBLIC_URL: 'ota.example' }, '/')).toThrow(
      /PORT.*\n.*PUBLIC_URL/,
    )
  })
})

it('a port that is taken is named, with the variable that moves it', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await expect(checkPort('127.0.0.1', port, 'MQTT_PORT')).rejects.toThrow(
    `Port ${port} on 127.0.0.1 is taken by another program. Set MQTT_PORT`,
  )
  server.close()
  await once(server, 'close')
  await checkPort('127.0.0.1', port, 'MQTT_PORT')
})
