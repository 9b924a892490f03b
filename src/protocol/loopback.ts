/** Whether only this machine can be reached under the host name of a URL. A name that DNS decides about is none. */
export const isLoopback = (hostname: string): boolean =>
  /^(localhost|127(\.\d{1,3}){3}|\[?::1\]?)$/i.test(hostname)

/** Whether a URL leads to this machine alone; false if it is no URL. */
export const isLoopbackUrl = (url: string): boolean => URL.canParse(url) && isLoopback(new URL(url).hostname)
