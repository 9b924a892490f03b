import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { readConfig } from '../../../bridge/config.ts'
import { makeCertificates } from '../../e2e/certificates.ts'

const LEAST = { WORKER_URL: 'https://ota.example.com/', BRIDGE_KEY: 'eota_secret' }

const faultsOf = (environment: Record<string, string>): string[] => {
  try {
    readConfig(environment)
    return []
  } catch (error) {
    return (error as Error).message
      .split('\n')
      .slice(1)
      .map((line) => line.trim())
  }
}

it('the configuration names every fault at once, also of variables that contradict each other, but no value', () => {
  const faults = faultsOf({
    BRIDGE_KEY: 'eota_secret',
    WORKER_URL: 'ftp://x',
    MQTT_PORT: '70000',
    HEALTH_PORT: '-1',
    IDENTITY: 'envelope',
    MQTT_PASSWORD: 'hidden',
    MQTT_CERT_FILE: '/nowhere/cert.pem',
    PLUGIN_SOCKET: 'x'.repeat(108),
  })
  const named = faults.map((fault) => fault.split(':')[0])
  for (const name of ['WORKER_URL', 'MQTT_PORT', 'HEALTH_PORT', 'IDENTITY', 'MQTT_PASSWORD', 'PLUGIN_SOCKET'])
    expect(named).toContain(name)
  expect(faults).toContain('MQTT_CERT_FILE, MQTT_KEY_FILE: certificate and key go together')
  expect(faults).toContain('MQTT_CERT_FILE: names a file that cannot be read')
  expect(faults.join()).not.toMatch(/secret|hidden|ftp/)
})

it.each([
  ['MQTT_USERNAME', 'bridge'],
  ['MQTT_SHARED_GROUP', 'group'],
  ['PLUGIN_SOCKET', '/run/x.sock'],
  ['IDENTITY', 'user-property'],
])('the configuration takes %s only together with MQTT_URL', (name, value) => {
  expect(faultsOf({ ...LEAST, [name]: value })).toEqual([`${name}: needs MQTT_URL`])
  expect(faultsOf({ ...LEAST, [name]: value, MQTT_URL: 'mqtts://broker:8883' })).toEqual([])
})

function temporary() {
  const directory = mkdtempSync(join(tmpdir(), 'config-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  const file = (name: string, text: string) => {
    writeFileSync(join(directory, name), text)
    return join(directory, name)
  }
  return { directory, file }
}

it('the configuration reads the login for a joined broker, with the password from a file', () => {
  const { directory, file } = temporary()
  const { caFile, ca, issue } = makeCertificates(directory, 'own')
  const { certFile, keyFile, cert, key } = issue('bridge')
  const { mqttLogin, mqttUrl } = readConfig({
    ...LEAST,
    MQTT_URL: 'mqtts://broker:8883',
    MQTT_USERNAME: 'edge-ota',
    MQTT_PASSWORD_FILE: file('password', 'of the bridge\n'),
    MQTT_CA_FILE: caFile,
    MQTT_CERT_FILE: certFile,
    MQTT_KEY_FILE: keyFile,
  })
  expect(mqttUrl).toBe('mqtts://broker:8883')
  expect(mqttLogin).toEqual({ username: 'edge-ota', password: 'of the bridge', ca, cert, key })
})

it('the configuration names certificates and keys that cannot be parsed, or that are given without TLS', () => {
  const { file } = temporary()
  const files = {
    MQTT_CA_FILE: file('ca.pem', 'x'),
    MQTT_CERT_FILE: file('cert.pem', 'x'),
    MQTT_KEY_FILE: file('key.pem', 'x'),
  }
  expect(faultsOf({ ...LEAST, MQTT_URL: 'mqtt://broker:1883', ...files })).toEqual([
    'MQTT_CA_FILE: holds no certificate in PEM',
    'MQTT_CERT_FILE: holds no certificate in PEM',
    'MQTT_KEY_FILE: holds no private key in PEM without a passphrase',
    ...Object.keys(files).map((name) => `${name}: needs TLS, an MQTT_URL that begins with mqtts: or wss:`),
  ])
})

it.each([
  [
    'MQTT_PASSWORD, MQTT_PASSWORD_FILE: give one of them',
    { MQTT_PASSWORD: 'x', MQTT_PASSWORD_FILE: '/dev/null' },
  ],
  [
    'MQTT_URL, MQTT_USERNAME: give the login in one of them',
    { MQTT_URL: 'mqtt://me:hidden@broker', MQTT_USERNAME: 'you' },
  ],
  [
    'PLUGIN_SOCKET: the plugin names the publisher in the topic, so IDENTITY is topic',
    { PLUGIN_SOCKET: '/run/x.sock', IDENTITY: 'envelope' },
  ],
])('the configuration refuses variables that contradict each other: %s', (fault, environment) => {
  expect(faultsOf({ ...LEAST, MQTT_URL: 'mqtt://broker', ...environment })).toEqual([fault])
})

it('the configuration treats an empty variable as absent', () => {
  expect(readConfig({ ...LEAST, MQTT_URL: '', HEALTH_PORT: '' })).toMatchObject({
    mqttUrl: undefined,
    health: undefined,
  })
  expect(readConfig({ ...LEAST, HEALTH_PORT: '9100' }).health).toEqual({ host: '127.0.0.1', port: 9100 })
})

it('a bridge sends its key over http to its own machine only', () => {
  const faultOf = (url: string) => faultsOf({ ...LEAST, WORKER_URL: url })
  for (const url of [
    'http://ota.example.com',
    'http://192.0.2.7:8787',
    'http://127.0.0.1@ota.example.com',
    'http://localhost.example.com',
    'http://0.0.0.0',
  ]) {
    expect([url, faultOf(url)]).toEqual([url, [expect.stringMatching(/^WORKER_URL: must begin with https:/)]])
  }
  for (const url of [
    'https://ota.example.com',
    'http://127.0.0.1:8787',
    'http://localhost:8787',
    'http://[::1]:8787',
  ]) {
    expect([url, faultOf(url)]).toEqual([url, []])
  }
})
