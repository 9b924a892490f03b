import { $ } from './dom.client.js'

// Calls of the API, in the session of who signed in.

/** What the API answered; a problem is thrown, with its `errors` by field. */
export async function call(method, path, body, headers = {}) {
  const isJson = body !== undefined && !(body instanceof Blob)
  const response = await fetch(path, {
    method,
    headers: { ...(isJson && { 'content-type': 'application/json' }), ...headers },
    body: isJson ? JSON.stringify(body) : body,
  }).catch(() => null)
  if (!response) throw { detail: $('main').dataset.offline, errors: [] }
  const isText = response.status !== 204 && response.headers.get('content-type')?.includes('json')
  const answer = isText ? await response.json() : null
  if (response.status === 401) location.assign('/sign-in')
  if (!response.ok) throw { errors: [], ...answer }
  return answer
}

/** One request with its progress; `fetch` does not tell of what it sends. */
export function send(method, path, blob, onProgress, headers = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest()
    request.open(method, path)
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value)
    request.upload.onprogress = ({ loaded }) => onProgress(loaded)
    request.onload = () => {
      const answer = JSON.parse(request.responseText || 'null')
      if (request.status < 300) resolve(answer)
      else reject({ status: request.status, errors: [], ...answer })
    }
    request.onerror = () => reject({ detail: $('main').dataset.offline, errors: [], isCut: true })
    request.send(blob)
  })
}
