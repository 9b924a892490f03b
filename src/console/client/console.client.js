// What a page does by itself: forms call the API as JSON, times are shown in the viewer's zone, figures move.
// Everything is read from `data-` attributes; texts come with the page.

import { $, $$, showTimes } from './dom.client.js'
import { press, preview, showFaults, submit } from './form.client.js'
import { importFile } from './import.client.js'
import { follow } from './live.client.js'
import { choose, eachChosen, showChosen } from './select.client.js'
import { upload } from './upload.client.js'

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
  if (button.dataset.each) void eachChosen(button)
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
  if (event.target.matches('[data-device], [data-all-devices]')) choose(event.target)
  const { switches } = event.target.dataset
  // A choice shows what belongs to it, and hides what belongs to the others.
  if (switches)
    for (const part of $$(`[data-of="${switches}"]`)) part.hidden = part.dataset.when !== event.target.value
})

document.addEventListener('htmx:after:swap', () => {
  showTimes()
  showChosen()
})
showTimes()
for (const element of $$('[data-live]')) follow(element)
