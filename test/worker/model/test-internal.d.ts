/** The inside of the test plugin. */
declare module 'cloudflare:test-internal' {
  /** Runs the callback that the request names. */
  export function maybeHandleRunRequest(request: RequestInit, instance: unknown): Promise<Response>
}
