// The script of every page: forms and buttons call the API, times are shown in the visitor's zone, live figures are
// followed. `data-` attributes say what an element does, and hold the texts that it shows.

import { $, $$, showTimes } from './dom.client.js'
import { press, preview, showFaults, submit } from './form.client.js'
import { forgetTrial, importFile } from './import.client.js'
import { follow } from './live.client.js'
import { drop, pick, showPicked } from './pick.client.js'
import { apply, leavePreset, nameRows, show } from './rows.client.js'
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
  }
  if (adds) {
    const template = $(adds)
    template.before(template.content.cloneNode(true))
    nameRows()
  }
  if (removes) {
    button.closest(removes).remove()
    nameRows()
  }
})

document.addEventListener('input', ({ target }) => {
  target.removeAttribute('aria-invalid')
  // A changed filter begins at the first page.
  const cursor = target.form?.elements.namedItem('cursor')
  if (cursor && cursor !== target) cursor.value = ''
  for (const each of $$('[data-picks][aria-pressed]'))
    each.setAttribute('aria-pressed', String($(each.dataset.picks).value === each.dataset.value))
})

document.addEventListener('change', (event) => {
  const { target } = event
  const { switches, rule, presets, pick: picks } = target.dataset
  if (target.matches('[data-device], [data-all-devices]')) choose(target)
  if (picks !== undefined) pick(target)
  if (target.closest('[data-picked]')) drop(target)
  if (switches) show(target)
  if (presets !== undefined) apply(target)
  if (rule) leavePreset(target)
  if (target.form?.dataset.import) forgetTrial(target.form)
})

// A hidden page fetches nothing; once it is shown again, it fetches all its parts.
document.addEventListener('htmx:before:request', (event) => {
  if (document.hidden) event.preventDefault()
})
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) for (const part of $$('[hx-trigger*=refresh]')) htmx.trigger(part, 'refresh')
})

document.addEventListener('htmx:after:swap', () => {
  showTimes()
  showChosen()
  showPicked()
})
showTimes()
for (const element of $$('[data-live]')) follow(element)
