import { call, send } from './api.client.js'
import { $ } from './dom.client.js'

// Files to packages, which go on where they were cut off: also after the page was closed.

const DIRECT_BYTES = 100 * 1024 * 1024
const PART_TRIES = 5

/** A file to a package, whose API is at `path`: in one piece, or in parts. */
export async function upload(form, path, file) {
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

/** Under this name the browser remembers the upload that it began for a package, and of which file. */
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

/** The upload of the same file that was begun before and is still open; undefined where there is none. */
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
