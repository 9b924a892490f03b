import { call, send } from './api.client.js'
import { $ } from './dom.client.js'

// Uploads of package files. An upload that was cut off is resumed, even after its page was closed.

const DIRECT_BYTES = 100 * 1024 * 1024
const PART_TRIES = 5

/** Uploads a file, and before it the signature if there is one, to the package at `path` of the API. */
export async function upload(form, path, file) {
  await sign(form, path)
  const bar = $('progress', form)
  bar.hidden = false
  bar.max = file.size
  const show = (bytes) => {
    bar.value = bytes
  }
  const sha256 = $('[data-digest]', form).value.trim().toLowerCase() || undefined
  if (file.size <= DIRECT_BYTES) {
    const headers = sha256 && { 'x-content-sha256': sha256 }
    await send('PUT', `${path}/file?filename=${encodeURIComponent(file.name)}`, file, show, headers)
    return
  }
  const marks = [file.name, file.size, file.lastModified, sha256].join('/')
  const { place, partSize, missing } =
    (await begun(path, marks)) ?? (await begin(path, { size: file.size, filename: file.name, sha256 }, marks))
  for (const number of missing) {
    const from = (number - 1) * partSize
    await sendPart(`${place}/parts/${number}`, file.slice(from, from + partSize), (sent) => show(from + sent))
  }
  await call('POST', `${place}/complete`)
  localStorage.removeItem(noteName(path))
}

async function sign(form, path) {
  const keyId = $('[data-signing-key]', form)?.value
  const value = $('[data-signature]', form)?.value.trim()
  if (keyId || value) await call('PUT', `${path}/signature`, { keyId, value })
}

/** The name under which `localStorage` keeps a package's open upload, and which file it is of. */
const noteName = (path) => `upload ${path}`

async function begin(path, file, marks) {
  const { uploadId, partSize } = await call('POST', `${path}/uploads`, file)
  localStorage.setItem(noteName(path), JSON.stringify({ uploadId, marks }))
  const parts = Math.ceil(file.size / partSize)
  return {
    place: `${path}/uploads/${uploadId}`,
    partSize,
    missing: Array.from({ length: parts }, (_, n) => n + 1),
  }
}

/** The open upload of the same file, begun before; undefined if there is none. */
async function begun(path, marks) {
  const note = JSON.parse(localStorage.getItem(noteName(path)) ?? 'null')
  if (note?.marks !== marks) return undefined
  const place = `${path}/uploads/${note.uploadId}`
  try {
    const { partSize, missing } = await call('GET', place)
    return { place, partSize, missing }
  } catch (problem) {
    if (problem.status === 404) return undefined
    throw problem
  }
}

async function sendPart(path, blob, onProgress) {
  for (let tried = 1; ; tried++) {
    try {
      return await send('PUT', path, blob, onProgress)
    } catch (problem) {
      if (tried === PART_TRIES || !(problem.isCut || problem.status >= 500)) throw problem
      await new Promise((resolve) => setTimeout(resolve, 500 * 2 ** tried))
    }
  }
}
