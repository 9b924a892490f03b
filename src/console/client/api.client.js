import { $ } from './dom.client.js'

// Calls of the API, which the session's cookie authorizes.

/** Calls the API and returns its answer; throws a problem with `detail`, and `errors` by field. */
export async function call(method, path, body, headers = {}) {
  const isJson = body !== undefined && !(body instanceof Blob)
  const init = {
    method,
    headers: { ...(isJson && { 'content-type': 'application/json' }), ...headers },
    body: isJson ? JSON.stringify(body) : body,
  }
  const [status, text] = await fetch(path, init)
    .then(async (response) => [response.status, await response.text()])
    .catch(() => [])
  if (status === undefined) throw cut()
  return answerOf(status, text)
}

/** Like `call`, for a file: reports the bytes sent so far, which `fetch` does not. */
export function send(method, path, blob, onProgress, headers = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest()
    request.open(method, path)
    // Not the type that the browser guesses from the file's name: the API refuses what may be no raw file.
    request.setRequestHeader('content-type', 'application/octet-stream')
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value)
    request.upload.onprogress = ({ loaded }) => onProgress(loaded)
    request.onload = () => {
      try {
        resolve(answerOf(request.status, request.responseText))
      } catch (problem) {
        reject(problem)
      }
    }
    request.onerror = () => reject(cut())
    request.send(blob)
  })
}

/** The problem of a lost connection. */
const cut = () => ({ detail: $('main').dataset.offline, errors: [], isCut: true })

/** Returns the answer or throws its problem. A proxy may answer in place of the API, and not in JSON. */
function answerOf(status, text) {
  const answer = parsed(text)
  if (status === 401)
    location.assign(`/sign-in?to=${encodeURIComponent(location.pathname + location.search)}`)
  if (status < 300) return answer
  const known = JSON.parse($('main').dataset.problems)[answer?.code]
  throw { detail: `HTTP ${status}`, errors: [], ...answer, status, ...(known && { detail: known }) }
}

function parsed(text) {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
