import { env, exports } from 'cloudflare:workers'
import { inspectRoutes } from 'hono/dev'
import { expect, it } from 'vitest'
import { app } from '../../../src/app.ts'
import { makeClient } from '../api.ts'
import { makeLab } from '../lab.ts'

const ORIGIN = 'http://edge-ota.test'

it('a request for a socket without an upgrade returns 426 and names the protocol', async () => {
  const lab = await makeLab(1)
  const task = await lab.upgradeTo('v2')
  const bridge = await makeClient('bridge', lab.admin.tenantId, 'default')
  const signedIn = await exports.default.fetch(`${ORIGIN}/sign-in`, {
    method: 'POST',
    redirect: 'manual',
    headers: { origin: ORIGIN },
    body: new URLSearchParams({ key: lab.admin.key, to: '/' }),
  })
  const headers = {
    authorization: `Bearer ${bridge.key}`,
    cookie: signedIn.headers.get('set-cookie')!.split(';')[0]!,
  }
  const sockets = inspectRoutes(app).filter(
    ({ path, isMiddleware }) => !isMiddleware && /\/(live|socket)$/.test(path),
  )
  expect(sockets.map(({ path }) => path).toSorted()).toEqual(['/bridge/v1/socket', '/tasks/:id/live'])
  for (const { path } of sockets) {
    for (const upgrade of [undefined, 'h2c']) {
      const answer = await app.request(
        path.replace(':id', task.id),
        { headers: { ...headers, ...(upgrade && { upgrade }) } },
        env,
      )
      expect([answer.status, answer.headers.get('upgrade')], `${path} ${upgrade}`).toEqual([426, 'websocket'])
      expect(await answer.json()).toMatchObject({ status: 426, code: 'socket.upgrade_required' })
    }
  }
})
