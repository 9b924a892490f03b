import { exports } from 'cloudflare:workers'
import { expect, it } from 'vitest'
import { makeLab } from '../lab.ts'
import { moveClock, until } from '../lab-clock.ts'

it('the socket of a page whose key was revoked hears no more', async () => {
  const lab = await makeLab(2)
  const task = await lab.upgradeTo('v2')
  const viewer = await lab.admin.call('POST', '/api/v1/keys', { name: 'v', role: 'viewer' })
  const origin = 'http://edge-ota.test'
  const signedIn = await exports.default.fetch(`${origin}/sign-in`, {
    method: 'POST',
    redirect: 'manual',
    headers: { origin },
    body: new URLSearchParams({ key: viewer.body.key, to: '/' }),
  })
  const cookie = signedIn.headers.get('set-cookie')!.split(';')[0]!
  const live = await exports.default.fetch(`${origin}/tasks/${task.id}/live`, {
    headers: { cookie, origin, upgrade: 'websocket' },
  })
  expect(live.status).toBe(101)
  const heard: string[] = []
  let isClosed = false
  const socket = live.webSocket!
  socket.accept()
  socket.addEventListener('message', ({ data }) => void heard.push(data as string))
  socket.addEventListener('close', () => {
    isClosed = true
  })
  await until('the figures', async () => heard.length > 0)
  await lab.admin.call('DELETE', `/api/v1/keys/${viewer.body.id}`)
  const before = heard.length
  moveClock(5_000)
  await lab.push(lab.devices[0]!)
  await until('the end of the socket', async () => isClosed)
  expect(heard.slice(before)).toEqual([])
})
