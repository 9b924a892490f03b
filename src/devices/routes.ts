import { createRoute, z } from '@hono/zod-openapi'
import { admits, requireRole, tenantOf } from '../auth/middleware.ts'
import { notFound } from '../common/errors.ts'
import { openDb } from '../db/client.ts'
import { listPage, placeOf } from '../http/cursors.ts'
import { newIdFor } from '../http/new-id.ts'
import {
  createRouter,
  idParam,
  idText,
  json,
  jsonBody,
  listOf,
  listQuery,
  problems,
  text,
  withKey,
} from '../http/openapi.ts'
import { createDevice } from './create-device.ts'
import {
  deviceAnswer,
  deviceChangesBody,
  deviceItem,
  newDeviceBody,
  toDeviceAnswer,
  toDeviceItem,
} from './device.ts'
import { patchDevice } from './patch-device.ts'
import { removeDevice } from './remove-device.ts'
import { rotateToken } from './rotate-token.ts'
import { auditShownToken } from './shown-token.ts'
import { findDevice, listDevices, modulesOf } from './store.ts'

const base = { tags: ['devices'], security: withKey }
const reads = { ...base, middleware: requireRole('viewer') }
const writes = { ...base, middleware: requireRole('operator') }
const one = { path: '/api/v1/devices/{id}', request: { params: idParam } } as const

const filterQuery = listQuery.extend({
  productId: idText.optional(),
  search: text(128).optional().openapi({ description: 'A part of the number or the name' }),
  version: text(64).optional(),
  module: text(64).optional(),
  tag: text(64).optional(),
  online: z
    .enum(['true', 'false'])
    .transform((value) => value === 'true')
    .optional(),
})

export const deviceRoutes = createRouter()
  .openapi(
    createRoute({
      ...writes,
      method: 'post',
      path: '/api/v1/devices',
      description: 'Without `accessToken` or `credentials` the device gets a random token.',
      request: { body: jsonBody(newDeviceBody) },
      responses: { 201: json(deviceAnswer, 'The new device'), ...problems },
    }),
    async (c) => {
      const ids = { id: await newIdFor(c, 'dev'), tenantId: tenantOf(c) }
      const device = await createDevice(openDb(c.env.DB), ids, c.req.valid('json'))
      return c.json(toDeviceAnswer(device, [], true), 201)
    },
  )
  .openapi(
    createRoute({
      ...reads,
      method: 'get',
      path: '/api/v1/devices',
      request: { query: filterQuery },
      responses: { 200: json(listOf(deviceItem), 'Devices, oldest first, without tokens'), ...problems },
    }),
    async (c) => {
      const { limit, cursor, ...filter } = c.req.valid('query')
      const db = openDb(c.env.DB)
      const rows = await listDevices(db, tenantOf(c), filter, limit, placeOf(c, cursor))
      const { items, nextCursor } = listPage(c, rows, limit, (device) => device.id)
      const modules = await modulesOf(
        db,
        items.map((device) => device.id),
      )
      return c.json(
        { items: items.map((device) => toDeviceItem(device, modules.get(device.id) ?? [])), nextCursor },
        200,
      )
    },
  )
  .openapi(
    createRoute({
      ...reads,
      ...one,
      method: 'get',
      responses: { 200: json(deviceAnswer, 'The device'), ...problems },
    }),
    async (c) => {
      const { id } = c.req.valid('param')
      const db = openDb(c.env.DB)
      const device = await findDevice(db, tenantOf(c), id)
      if (!device) throw notFound('device')
      const modules = (await modulesOf(db, [id])).get(id) ?? []
      const withToken = admits('operator', c.var.principal.role)
      if (withToken && device.passwordHash === null) await auditShownToken(c, id, Date.now())
      return c.json(toDeviceAnswer(device, modules, withToken), 200)
    },
  )
  .openapi(
    createRoute({
      ...writes,
      ...one,
      method: 'patch',
      description: 'A device with an active upgrade cannot leave its product.',
      request: { params: idParam, body: jsonBody(deviceChangesBody) },
      responses: { 200: json(deviceAnswer, 'The device as it is now'), ...problems },
    }),
    async (c) => {
      const { id } = c.req.valid('param')
      const db = openDb(c.env.DB)
      const device = await patchDevice(c.env, db, tenantOf(c), id, c.req.valid('json'))
      if (device.passwordHash === null) await auditShownToken(c, id, Date.now())
      return c.json(toDeviceAnswer(device, (await modulesOf(db, [id])).get(id) ?? [], true), 200)
    },
  )
  .openapi(
    createRoute({
      ...writes,
      ...one,
      method: 'delete',
      responses: { 204: { description: 'Deleted; in its tasks it counts as cancelled' }, ...problems },
    }),
    async (c) => {
      await removeDevice(c.env, openDb(c.env.DB), tenantOf(c), c.req.valid('param').id)
      return c.body(null, 204)
    },
  )
  .openapi(
    createRoute({
      ...writes,
      method: 'post',
      path: '/api/v1/devices/{id}/rotate-token',
      request: { params: idParam },
      responses: {
        200: json(z.object({ accessToken: z.string() }), 'The new token; the old one is refused from now on'),
        ...problems,
      },
    }),
    async (c) => {
      const accessToken = await rotateToken(c.env, openDb(c.env.DB), tenantOf(c), c.req.valid('param').id)
      return c.json({ accessToken }, 200)
    },
  )
