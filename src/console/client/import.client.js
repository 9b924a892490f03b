import { call } from './api.client.js'
import { $, fill, say } from './dom.client.js'

/** Sends the file: a trial shows what would be imported and which rows would be rejected, else it is imported. */
export async function importFile(form, isTrial) {
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
  const { ignoredColumns } = result
  for (const text of [
    fill(form.dataset.summary, result),
    ...(ignoredColumns.length > 0
      ? [fill(form.dataset.ignored, { columns: ignoredColumns.join(', ') })]
      : []),
    ...result.rejected.slice(0, 50).map((row) => fill(form.dataset.line, row)),
  ]) {
    const line = document.createElement('p')
    line.textContent = text
    preview.append(line)
  }
  $('button[value=import]', form).disabled = result.created + result.updated === 0
}

/** Another file or product was chosen, so the trial no longer says what an import would do: it has to be repeated. */
export function forgetTrial(form) {
  $('[data-preview]', form).replaceChildren()
  $('button[value=import]', form).disabled = true
}
