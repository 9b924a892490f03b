import type { z } from 'zod'
import type { deviceItem } from '../../src/devices/device.ts'
import type { packageAnswer } from '../../src/packages/package.ts'
import type { productAnswer } from '../../src/products/product.ts'
import type { signingKeyAnswer } from '../../src/signing/signing-key.ts'
import type { DevicePage, TaskView } from '../../src/tasks/object/task-view.ts'

type Product = z.infer<typeof productAnswer>
type Package = z.infer<typeof packageAnswer>
type SigningKey = z.infer<typeof signingKeyAnswer>
type DeviceItem = z.infer<typeof deviceItem>
interface List<T> {
  items: T[]
  nextCursor: string | null
}
interface ImportResult {
  created: number
  updated: number
  rejected: { line: number; reason: string }[]
}
interface RetryResult {
  retried: number
  skipped: { reason: string; count: number }[]
}

/** An error answer of the API (src/http/README.md#errors). */
export class ApiError extends Error {
  readonly status: number
  readonly code: string

  constructor(call: string, status: number, problem: { code?: string; detail?: string; errors?: unknown }) {
    const faults = problem.errors === undefined ? '' : ` ${JSON.stringify(problem.errors)}`
    super(`${call}: ${status} ${problem.code ?? ''} ${problem.detail ?? ''}${faults}`)
    this.status = status
    this.code = problem.code ?? ''
  }
}

const REQUEST_TIMEOUT_MS = 120_000
const MAX_PAGE = 200

export type Api = ReturnType<typeof createApi>

/** The calls of the operators' API that fleets need. Each throws an ApiError if the answer is no success. */
export function createApi(options: {
  url: string
  key: string
  /** Called before each request. */
  onCall?: (method: string, path: string, body: unknown) => void
}) {
  async function send(
    method: string,
    path: string,
    body?: unknown,
    type = 'application/json',
  ): Promise<string> {
    options.onCall?.(method, path, body)
    const isRaw = typeof body === 'string' || body instanceof Uint8Array
    const response = await fetch(options.url + path, {
      method,
      headers: {
        authorization: `Bearer ${options.key}`,
        ...(body !== undefined && { 'content-type': type }),
      },
      ...(body !== undefined && {
        body: isRaw ? (body as string | Uint8Array<ArrayBuffer>) : JSON.stringify(body),
      }),
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
    }).catch(() => {
      throw new Error(`${method} ${path}: ${options.url} does not answer.`)
    })
    const text = await response.text()
    if (!response.ok) throw new ApiError(`${method} ${path}`, response.status, readProblem(text))
    return text
  }

  async function call<T>(method: string, path: string, body?: unknown, type?: string): Promise<T> {
    const text = await send(method, path, body, type)
    return (text === '' ? undefined : JSON.parse(text)) as T
  }

  /** Returns all items of a list and fetches its pages as they are needed. */
  async function* all<T>(path: string): AsyncGenerator<T> {
    const separator = path.includes('?') ? '&' : '?'
    let cursor: string | null = null
    do {
      const from: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`
      const page: List<T> = await call('GET', `${path}${separator}limit=${MAX_PAGE}${from}`)
      yield* page.items
      cursor = page.nextCursor
    } while (cursor !== null)
  }

  return {
    call,
    products: () => all<Product>('/api/v1/products'),
    createProduct: (product: { name: string; description?: string; requireSignature?: boolean }) =>
      call<Product>('POST', '/api/v1/products', product),
    signingKeys: (productId: string) => all<SigningKey>(`/api/v1/products/${productId}/signing-keys`),
    addSigningKey: (productId: string, name: string, publicKey: string) =>
      call<SigningKey>('POST', `/api/v1/products/${productId}/signing-keys`, { name, publicKey }),
    /** `csv` begins with a header: `number,name,access_token,tags`. */
    importDevices: (productId: string, csv: string) =>
      call<ImportResult>('POST', `/api/v1/devices/import?productId=${productId}`, csv, 'text/csv'),
    devices: (query: string) => call<List<DeviceItem>>('GET', `/api/v1/devices?${query}`),
    packages: (productId: string) => all<Package>(`/api/v1/packages?productId=${productId}`),
    createPackage: (pkg: {
      productId: string
      name: string
      version: string
      module?: string
      signature?: { keyId: string; value: string }
    }) => call<Package>('POST', '/api/v1/packages', pkg),
    uploadFile: (packageId: string, filename: string, bytes: Uint8Array<ArrayBuffer>) =>
      call<Package>(
        'PUT',
        `/api/v1/packages/${packageId}/file?filename=${encodeURIComponent(filename)}`,
        bytes,
        'application/octet-stream',
      ),
    createTask: (task: { packageId: string; name: string; devices: unknown; policy?: object }) =>
      call<TaskView>('POST', '/api/v1/tasks', task),
    task: (id: string) => call<TaskView>('GET', `/api/v1/tasks/${id}`),
    tasks: (productId: string) => all<TaskView>(`/api/v1/tasks?productId=${productId}`),
    taskDevices: (id: string, query = '') =>
      all<DevicePage['items'][number]>(`/api/v1/tasks/${id}/devices${query}`),
    /** Returns the whole CSV file as text. */
    report: (id: string) => send('GET', `/api/v1/tasks/${id}/report.csv`),
    retryTask: (id: string) => call<RetryResult>('POST', `/api/v1/tasks/${id}/retry`),
  }
}

function readProblem(text: string): { code?: string; detail?: string; errors?: unknown } {
  try {
    return JSON.parse(text)
  } catch {
    return { detail: text.slice(0, 200) }
  }
}
