// What the other scripts share: finding elements, times in the visitor's zone, messages and questions.

export const $ = (selector, from = document) => from.querySelector(selector)
export const $$ = (selector, from = document) => [...from.querySelectorAll(selector)]

/** A text with its `{names}` filled in. */
export const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? '')

const locale = document.documentElement.lang
export const format = new Intl.DateTimeFormat(locale, { dateStyle: 'medium', timeStyle: 'medium' })

export function showTimes(root = document) {
  for (const time of $$('time:not([title])', root)) {
    const at = new Date(time.dateTime)
    if (Number.isNaN(at.getTime())) continue
    time.title = `${time.dateTime.replace('T', ' ').replace(/\.\d+Z$|Z$/, '')} UTC`
    time.textContent = format.format(at)
  }
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone
  for (const place of $$('[data-zone]', root)) place.textContent = zone
  for (const field of $$('[data-zone-value]', root)) field.value ||= zone
}

const UNITS = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte']

/** A number of bytes, in a unit that makes it short. */
export function sizeText(bytes) {
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(bytes, 1)) / 3))
  const style = { style: 'unit', unit: UNITS[power], unitDisplay: 'short', maximumFractionDigits: 1 }
  return new Intl.NumberFormat(locale, style).format(bytes / 1000 ** power)
}

const MESSAGE_MS = 8000

/** Shows a message for a while; screen readers read it out. */
export function say(text, isFault = false) {
  const line = document.createElement('p')
  line.textContent = text
  if (isFault) line.className = 'fault'
  $('#messages').append(line)
  setTimeout(() => line.remove(), MESSAGE_MS)
}

/** Asks in the page's dialog; resolves to whether the visitor confirmed. */
export function confirmed(text) {
  const dialog = $('#confirm')
  $('p', dialog).textContent = text
  dialog.returnValue = ''
  dialog.showModal()
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true })
  })
}
