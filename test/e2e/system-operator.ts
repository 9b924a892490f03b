import { expect } from 'vitest'

export interface Answer {
  status: number
  headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: tests look into whatever comes back
  body: any
}

/** Sends one request to the Worker: a string or bytes as they are, anything else as JSON. */
export type Call = (
  method: string,
  path: string,
  body?: unknown,
  headers?: Record<string, string>,
) => Promise<Answer>

/** The API with one key of a tenant. All functions but `call` throw if the request fails. */
export type Operator = ReturnType<typeof createOperator>

export function createOperator(call: Call) {
  async function done(method: string, path: string, body?: unknown, headers?: Record<string, string>) {
    const answer = await call(method, path, body, headers)
    expect(answer.status, `${method} ${path}: ${JSON.stringify(answer.body)}`).toBeLessThan(300)
    return answer.body
  }
  return {
    call,
    get: (path: string) => done('GET', path),
    post: (path: string, body?: unknown) => done('POST', path, body),
    product: async (more: object = {}): Promise<string> =>
      (await done('POST', '/api/v1/products', { name: 'a product', ...more })).id,
    /** Creates a device; `username` is its accessToken, or the username of its credentials. */
    async device(productId: string, number: string, more: object = {}) {
      const { id, accessToken, username } = await done('POST', '/api/v1/devices', {
        productId,
        number,
        ...more,
      })
      return { id, number, username: (accessToken ?? username) as string } as KnownDevice
    },
    /** Creates a package, uploads its file and returns it ready. */
    async pkg(productId: string, version: string, bytes: Uint8Array, more: object = {}) {
      const draft = await done('POST', '/api/v1/packages', { productId, name: 'firmware', version, ...more })
      return done('PUT', `/api/v1/packages/${draft.id}/file?filename=firmware.bin`, bytes, {
        'content-type': 'application/octet-stream',
      })
    },
    task: (packageId: string, more: object = {}) =>
      done('POST', '/api/v1/tasks', { packageId, name: 'a rollout', devices: 'all', ...more }),
    view: (taskId: string) => done('GET', `/api/v1/tasks/${taskId}`),
    deviceIn: (taskId: string, { id }: { id: string }) =>
      done('GET', `/api/v1/tasks/${taskId}/devices/${id}`),
  }
}

export interface KnownDevice {
  id: string
  number: string
  /** The device's name in topics: its AccessToken, or its username. */
  username: string
}

/** The expected counts of a task; states that are not given are 0. */
export const counts = (some: Record<string, number>) => ({
  total: Object.values(some).reduce((sum, count) => sum + count, 0),
  pending: 0,
  pushed: 0,
  upgrading: 0,
  success: 0,
  failure: 0,
  cancelled: 0,
  ...some,
})
