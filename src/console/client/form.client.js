import { call } from './api.client.js'
import { $, $$, confirmed, fill, format, say, sizeText } from './dom.client.js'
import { upload } from './upload.client.js'

// Forms and buttons that call the API. Their `data-` attributes name the call, its texts and what follows it.

const ofType = {
  number: (text) => Number(text),
  lines: (text) => text.split(/[\s,;]+/).filter(Boolean),
  datetime: (text) => new Date(text).toISOString(),
  // Any other choice is an object, which the choice's own fields fill.
  whom: (text) => (text === 'all' ? 'all' : {}),
}

function readField(field) {
  if (field.type === 'checkbox') return field.checked
  const text = field.value.trim()
  if (text === '') return { null: null, list: [] }[field.dataset.empty]
  return (ofType[field.dataset.type ?? field.type] ?? ((value) => value))(text)
}

/** Sets the value at a dotted name, as `policy.waves.0.percent`; a number is an index of a list. */
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

/** The JSON body of a form, without hidden and empty fields, files, and fields with `data-asks`. */
export function bodyOf(form) {
  const body = {}
  for (const field of form.elements) {
    const { list, asks, type } = field.dataset
    if (!field.name || field.disabled || field.closest('[hidden]') || field.type === 'file') continue
    if (asks !== undefined) continue
    if (list !== undefined) {
      const value = type ? ofType[type](field.value) : field.value
      if (field.type === 'hidden' || field.checked)
        put(body, field.name, [...(at(body, field.name) ?? []), value])
      continue
    }
    const value = readField(field)
    if (value !== undefined) put(body, field.name, value)
  }
  for (const rows of $$('[data-pairs]', form)) {
    const pairs = $$('[data-pair]', rows).map((row) => $$('input', row).map((input) => input.value))
    const filled = pairs.filter((pair) => pair.some((text) => text !== ''))
    if (filled.length > 0) put(body, rows.dataset.pairs, Object.fromEntries(filled))
  }
  return body
}

const at = (body, name) => name.split('.').reduce((value, part) => value?.[part], body)

/** Marks the fields that a problem names, and shows its text in the form. */
export function showFaults(form, { detail, errors }) {
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

/** After a call: shows a secret, refreshes a part of the page, opens another page, or loads this one again. */
function goOn(element, answer) {
  const { then, shows } = element.dataset
  if (shows) {
    const place = $(element.dataset.showsIn)
    place.hidden = false
    $('[data-secret]', place).textContent = answer[shows]
    place.focus()
    return
  }
  if (then?.startsWith('#')) for (const part of $$(then)) htmx.trigger(part, 'refresh')
  else if (then) location.assign(pathOf(then, answer ?? {}))
  else location.reload()
}

/** Form → its latest request: the body, its idempotency key, and the answer once there is one. */
const asked = new WeakMap()

/** The form's request for this body. The same body keeps its key: a task is not created twice if an answer was lost. */
function askedBefore(form, body) {
  const text = JSON.stringify(body)
  if (asked.get(form)?.text !== text) asked.set(form, { text, key: newKey(), answer: undefined })
  return asked.get(form)
}

const newKey = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16)).join('-')

/** Sends a form to the API, after the preview was confirmed if there is one, and uploads its file. */
export async function submit(form) {
  const [method, template] = form.dataset.api.split(' ')
  const buttons = $$('button[type=submit]', form)
  for (const button of buttons) button.disabled = true
  try {
    const body = bodyOf(form)
    const { previewApi, confirm } = form.dataset
    if (previewApi && !(await confirmed([confirm, ...(await previewLines(form, body))].join('\n')))) return
    const request = askedBefore(form, body)
    // If only the upload of the file failed, the package exists already and is not created again.
    request.answer ??= await call(method, pathOf(template, body), body, { 'idempotency-key': request.key })
    const { answer } = request
    const file = $('input[type=file]', form)?.files[0]
    if (file && form.dataset.upload) await upload(form, pathOf(form.dataset.upload, answer), file)
    asked.delete(form)
    form.closest('dialog')?.close()
    goOn(form, answer)
  } catch (problem) {
    if (!problem.errors) throw problem
    showFaults(form, problem)
  } finally {
    for (const button of buttons) button.disabled = false
  }
}

/** Makes the call of a button, after its question was confirmed if there is one. */
export async function press(button) {
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

/** Shows in the form what its task would do. */
export async function preview(form) {
  const place = $('[data-preview]', form)
  try {
    place.textContent = (await previewLines(form, bodyOf(form))).join('\n')
    place.hidden = false
    showFaults(form, { detail: '', errors: [] })
  } catch (problem) {
    if (!problem.errors) throw problem
    place.hidden = true
    showFaults(form, problem)
  }
}

/** Of a text `a[, at {at},] b` the brackets stay only if their parameter is there. Times are shown as elsewhere. */
const warningText = (template, params) =>
  template &&
  fill(
    template.replace(/\[([^\]]*)\]/g, (_, part) => (/\{(\w+)\}/.exec(part)?.[1] in params ? part : '')),
    { ...params, ...(params.startAt && { startAt: format.format(new Date(params.startAt)) }) },
  )

/** What the form's task would do, in the page's texts. */
async function previewLines(form, body) {
  const {
    previewText,
    previewBytes,
    previewSkipped,
    previewReasons,
    previewEnds,
    previewNotReached,
    previewWarnings,
  } = form.dataset
  const { devices, willReceive, bytes, skipped, endsAt, notReached, warnings } = await call(
    'POST',
    form.dataset.previewApi,
    body,
  )
  const reasons = JSON.parse(previewReasons)
  const templates = JSON.parse(previewWarnings)
  return [
    fill(previewText, { devices, willReceive }),
    willReceive > 0 && fill(previewBytes, { size: sizeText(bytes) }),
    ...skipped.map(({ code, count, reason }) =>
      fill(previewSkipped, { count, reason: reasons[code] ?? reason }),
    ),
    endsAt && fill(previewEnds, { at: format.format(new Date(endsAt)) }),
    notReached > 0 && fill(previewNotReached, { count: notReached }),
    ...warnings.map(({ code, message, params }) => `⚠ ${warningText(templates[code], params) ?? message}`),
  ].filter(Boolean)
}
