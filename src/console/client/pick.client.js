import { $, $$, fill } from './dom.client.js'

// Choosing devices from a list that changes with its search. The chosen ones are fields beside the list.

const place = () => $('[data-picked]')
const picked = (from) => $$('input', from)

/** Shows which of the listed devices are chosen, and how many are chosen in all. */
export function showPicked() {
  const from = place()
  if (!from) return
  const ids = new Set(picked(from).map(({ value }) => value))
  for (const box of $$('[data-pick]')) box.checked = ids.has(box.value)
  $('[data-count]', from).textContent = fill(from.dataset.picked, { count: ids.size })
}

export function pick(box) {
  const row = $('template', place()).content.cloneNode(true)
  $('input', row).value = box.value
  $('span', row).textContent = box.dataset.pick
  if (box.checked) place().append(row)
  else drop(picked(place()).find(({ value }) => value === box.value))
  showPicked()
}

export function drop(field) {
  field.closest('label').remove()
  showPicked()
}
