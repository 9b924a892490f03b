import { createRoute, z } from '@hono/zod-openapi'
import { requireRole, tenantOf } from '../../auth/middleware.ts'
import { newId } from '../../common/ids.ts'
import { createRouter, json, jsonBody, problems, withKey } from '../../http/openapi.ts'
import { previewTask, SKIP_CODES } from './preview.ts'
import { newTaskBody, taskWarning, toNewTask } from './schemas.ts'

const count = z.number().int()

const previewAnswer = z
  .object({
    devices: count.openapi({ description: 'That the task would take in' }),
    willReceive: count.openapi({ description: 'That would be sent a notice, as things are now' }),
    skipped: z.array(
      z.object({
        code: z.enum(SKIP_CODES),
        reason: z.string(),
        count,
        outcome: z.string().openapi({ description: 'What becomes of them' }),
      }),
    ),
    waves: z.array(
      z.object({
        percent: z.number(),
        devices: count,
        opensAt: z.string().nullable().openapi({
          description: 'When it is open and the window is too, at the soonest; null: not before the end',
        }),
      }),
    ),
    endsAt: z
      .string()
      .nullable()
      .openapi({ description: 'When the last notice would go out, at the soonest' }),
    notReached: count.openapi({ description: 'Whose notice would not go out before the end' }),
    bytes: count.openapi({ description: 'That all of them would download' }),
    packages: z.array(
      z.object({ packageId: z.string(), sourceVersion: z.string().nullable(), devices: count, bytes: count }),
    ),
    warnings: z.array(taskWarning),
  })
  .openapi('TaskPreview')

/** Mounted before the tasks' own routes, of which one would take `preview` for an id. */
export const previewRoutes = createRouter().openapi(
  createRoute({
    tags: ['tasks'],
    security: withKey,
    middleware: requireRole('operator'),
    method: 'post',
    path: '/api/v1/tasks/preview',
    description:
      'What a task would do if it were created now. Changes nothing. The times hold if every device is connected and ' +
      'succeeds as soon as it has its notice. A device counts once, for the first reason that it is skipped.',
    request: { body: jsonBody(newTaskBody) },
    responses: { 200: json(previewAnswer, 'Who, when, and how much'), ...problems },
  }),
  async (c) =>
    c.json(await previewTask(c.env, toNewTask(newId('tsk'), tenantOf(c), c.req.valid('json'))), 200),
)
