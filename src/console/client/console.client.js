// What a page does by itself: forms call the API as JSON, times are shown in the viewer's zone, figures move.
// Everything is read from `data-` attributes; texts come with the page.

const $ = (selector, from = document) => from.querySelector(selector)
const $$ = (selector, from = document) => [...from.querySelectorAll(selector)]

// ---- Times ----------------------------------------------------------------------------------------------

const locale = document.documentElement.lang
const format = new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'medium' })

function showTimes(root = document) {
  for (const time of $$('time:not([title])', root)) {
    const at = new Date(time.dateTime)
    if (Number.isNaN(at.getTime())) continue
    time.title = `${time.dateTime.replace('T', ' ').replace(/\.\d+Z$|Z$/, '')} UTC`
    time.textContent = format.format(at)
  }
  for (const zone of $$('[data-zone]', root))
    zone.textContent = Intl.DateTimeFormat().resolvedOptions().timeZone
}

// ---- Messages -------------------------------------------------------------------------------------------

const MESSAGE_MS = 8000

function say(text, isFault = false) {
  const line = document.createElement('p')
  line.textContent = text
  if (isFault) line.className = 'fault'
  $('#messages').append(line)
  setTimeout(() => line.remove(), MESSAGE_MS)
}

/** Asks in the page's own dialog. */
function confirmed(text) {
  const dialog = $('#confirm')
  $('p', dialog).textContent = text
  dialog.returnValue = ''
  dialog.showModal()
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true })
  })
}

// ---- The API --------------------------------------------------------------------------------------------

/** What the API answered; a problem is thrown, with its `errors` by field. */
async function call(method, path, body, headers = {}) {
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

const ofType = {
  number: (text) => Number(text),
  lines: (text) => text.split(/[\s,;]+/).filter(Boolean),
  datetime: (text) => new Date(text).toISOString(),
  // The fields that belong to the choice say more.
  whom: (text) => (text === 'all' ? 'all' : {}),
}

function readField(field) {
  if (field.type === 'checkbox') return field.checked
  const text = field.value.trim()
  if (text === '') return { null: null, list: [] }[field.dataset.empty]
  return (ofType[field.dataset.type ?? field.type] ?? ((value) => value))(text)
}

/** Puts a value where a dotted name says; a part that is a number counts in a list. */
function put(target, name, value) {
  const parts = name.split('.')
  const last = parts.pop()
  let at = target
  for (const [index, part] of parts.entries()) {
    at[part] ??= /^\d+$/.test(parts[index + 1] ?? last) ? [] : {}
    at = at[part]
  }
  at[last] = value
}

function bodyOf(form) {
  const body = {}
  for (const field of form.elements) {
    if (!field.name || field.disabled || field.closest('[hidden]') || field.type === 'file') continue
    if (field.dataset.list !== undefined) {
      if (field.checked) put(body, field.name, [...(at(body, field.name) ?? []), field.value])
      continue
    }
    const value = readField(field)
    if (value !== undefined) put(body, field.name, value)
  }
  for (const rows of $$('[data-pairs]', form)) {
    const pairs = $$('[data-pair]', rows).map((row) => $$('input', row).map((input) => input.value))
    const filled = pairs.filter(([key]) => key !== '')
    if (filled.length > 0) put(body, rows.dataset.pairs, Object.fromEntries(filled))
  }
  return body
}

const at = (body, name) => name.split('.').reduce((value, part) => value?.[part], body)

function showFaults(form, { detail, errors }) {
  const general = $('[data-fault]', form)
  for (const field of form.elements) field.removeAttribute('aria-invalid')
  const rest = []
  for (const { path, message } of errors) {
    const field = [...form.elements].find(
      (each) => each.name && (each.name === path || path.startsWith(`${each.name}.`)),
    )
    if (!field) rest.push(path ? `${path}: ${message}` : message)
    else {
      field.setAttribute('aria-invalid', 'true')
      rest.push(`${field.closest('label')?.querySelector('span')?.textContent ?? path}: ${message}`)
    }
  }
  const text = rest.length > 0 ? rest.join('\n') : detail
  if (general) general.textContent = text
  else say(text, true)
  $('[aria-invalid]', form)?.focus()
}

const pathOf = (template, values) =>
  template.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(values[name] ?? ''))

/** What comes after a change: another page, a part that is fetched anew, or the same page again. */
function goOn(element, answer) {
  const { then, says, shows } = element.dataset
  if (says) say(says.replace(/\{(\w+)\}/g, (_, name) => answer?.[name] ?? ''))
  if (shows) {
    const place = $(element.dataset.showsIn)
    place.hidden = false
    $('[data-secret]', place).textContent = answer[shows]
    return
  }
  if (then === 'none') return
  if (then?.startsWith('#')) for (const part of $$(then)) htmx.trigger(part, 'refresh')
  else if (then) location.assign(pathOf(then, answer ?? {}))
  else location.reload()
}

async function submit(form) {
  const [method, template] = form.dataset.api.split(' ')
  const buttons = $$('button[type=submit]', form)
  for (const button of buttons) button.disabled = true
  try {
    const body = bodyOf(form)
    const answer = await call(method, pathOf(template, body), body)
    const file = $('input[type=file]', form)?.files[0]
    if (file && form.dataset.upload) await upload(form, pathOf(form.dataset.upload, answer), file)
    form.closest('dialog')?.close()
    goOn(form, answer)
  } catch (problem) {
    if (!problem.errors) throw problem
    showFaults(form, problem)
  } finally {
    for (const button of buttons) button.disabled = false
  }
}

async function press(button) {
  const { api, confirm, body } = button.dataset
  if (confirm && !(await confirmed(confirm))) return
  const [method, path] = api.split(' ')
  button.disabled = true
  try {
    goOn(button, await call(method, path, body === undefined ? undefined : JSON.parse(body)))
  } catch (problem) {
    if (!problem.errors) throw problem
    say([problem.detail, ...problem.errors.map(({ message }) => message)].join(' '), true)
  } finally {
    button.disabled = false
  }
}

// ---- Files ----------------------------------------------------------------------------------------------

const DIRECT_BYTES = 100 * 1024 * 1024
const PART_TRIES = 5

/** One request with its progress; `fetch` does not tell of what it sends. */
function send(method, path, blob, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest()
    request.open(method, path)
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

/** A file to a package: in one piece, or in parts that are sent again where the connection was cut. */
async function upload(form, path, file) {
  const bar = $('progress', form)
  bar.hidden = false
  bar.max = file.size
  const show = (bytes) => {
    bar.value = bytes
  }
  const partBytes = Number(form.dataset.partBytes ?? DIRECT_BYTES)
  if (file.size <= partBytes) {
    await send('PUT', `${path}/file?filename=${encodeURIComponent(file.name)}`, file, show)
    return
  }
  const { uploadId, partSize } = await call('POST', `${path}/uploads`, {
    size: file.size,
    filename: file.name,
  })
  const place = `${path}/uploads/${uploadId}`
  for (let number = 1; (number - 1) * partSize < file.size; number++) {
    const from = (number - 1) * partSize
    await sendPart(`${place}/parts/${number}`, file.slice(from, from + partSize), (sent) => show(from + sent))
  }
  await call('POST', `${place}/complete`)
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

// ---- Devices from a file --------------------------------------------------------------------------------

const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? '')

/** First a trial, whose rejections are shown; then the same file in earnest. */
async function importFile(form, isTrial) {
  const file = $('input[type=file]', form).files[0]
  const query = new URLSearchParams({ productId: form.elements.productId.value, trial: String(isTrial) })
  const result = await call('POST', `${form.dataset.import}?${query}`, file, { 'content-type': 'text/csv' })
  if (!isTrial) {
    say(fill(form.dataset.done, result))
    location.reload()
    return
  }
  const preview = $('[data-preview]', form)
  preview.replaceChildren()
  for (const text of [
    fill(form.dataset.summary, result),
    ...result.rejected.slice(0, 50).map((row) => fill(form.dataset.line, row)),
  ]) {
    const line = document.createElement('p')
    line.textContent = text
    preview.append(line)
  }
  $('button[value=import]', form).disabled = result.created + result.updated === 0
}

// ---- What a task would do -------------------------------------------------------------------------------

async function preview(form) {
  const place = $('[data-preview]', form)
  const { previewText, previewSkipped, previewEnds } = form.dataset
  try {
    const answer = await call('POST', form.dataset.previewApi, bodyOf(form))
    const lines = [
      fill(previewText, answer),
      ...answer.skipped.filter(({ count }) => count > 0).map((each) => fill(previewSkipped, each)),
      ...(answer.endsAt ? [fill(previewEnds, { at: format.format(new Date(answer.endsAt)) })] : []),
    ]
    place.textContent = lines.join('\n')
    place.hidden = false
    showFaults(form, { detail: '', errors: [] })
  } catch (problem) {
    if (!problem.errors) throw problem
    place.hidden = true
    showFaults(form, problem)
  }
}

// ---- Live figures ---------------------------------------------------------------------------------------

const RECONNECT_MS = 3000

/** Figures of a task as its object tells them: `data-figure` elements follow, parts that ask for it are fetched anew. */
function follow(element) {
  const url = new URL(element.dataset.live, location.href)
  url.protocol = url.protocol.replace('http', 'ws')
  const socket = new WebSocket(url)
  socket.onmessage = ({ data }) => {
    const figures = JSON.parse(data)
    for (const place of $$('[data-figure]')) {
      const value = place.dataset.figure.split('.').reduce((part, name) => part?.[name], figures)
      if (value !== undefined) place.textContent = String(value)
    }
    for (const part of $$('[data-follows]')) htmx.trigger(part, 'refresh')
  }
  socket.onclose = () => setTimeout(() => follow(element), RECONNECT_MS)
}

// ---- Wiring ---------------------------------------------------------------------------------------------

const attempt = (form, work) =>
  work().catch((problem) => {
    if (!problem.errors) throw problem
    showFaults(form, problem)
  })

document.addEventListener('submit', (event) => {
  const form = event.target
  const { api, upload: path, import: place } = form.dataset
  if (!api && !path && !place) return
  event.preventDefault()
  if (place) void attempt(form, () => importFile(form, event.submitter?.value !== 'import'))
  else if (api) void submit(form)
  else
    void attempt(form, async () => {
      await upload(form, path, $('input[type=file]', form).files[0])
      location.reload()
    })
})

document.addEventListener('click', (event) => {
  const button = event.target.closest('button')
  if (!button) return
  const { api, opens, adds, removes, closes, previews, picks, value } = button.dataset
  if (api) void press(button)
  if (opens) $(opens).showModal()
  if (closes !== undefined) button.closest('dialog').close()
  if (previews !== undefined) void preview(button.form)
  if (picks) {
    const field = $(picks)
    field.value = value
    field.dispatchEvent(new Event('input', { bubbles: true }))
    for (const each of $$(`[data-picks="${picks}"]`))
      each.setAttribute('aria-pressed', String(each === button))
  }
  if (adds) {
    const template = $(adds)
    template.before(template.content.cloneNode(true))
  }
  if (removes) button.closest(removes).remove()
})

document.addEventListener('change', (event) => {
  const { switches } = event.target.dataset
  // A choice shows what belongs to it, and hides what belongs to the others.
  if (switches)
    for (const part of $$(`[data-of="${switches}"]`)) part.hidden = part.dataset.when !== event.target.value
})

document.addEventListener('htmx:after:swap', () => showTimes())
showTimes()
for (const element of $$('[data-live]')) follow(element)
