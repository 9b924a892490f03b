import { call } from './api.client.js'
import { $, $$, confirmed, fill, say } from './dom.client.js'

// Retrying or cancelling several devices. They stay chosen while the table is refreshed or shows another page.

const AT_ONCE = 4

/** Device id → the state in which the device was last shown. */
const chosen = new Map()

const boxes = () => $$('input[data-device]')

/** Marks the chosen devices, and enables each button that applies to at least one of them. */
export function showChosen() {
  for (const box of boxes()) {
    box.checked = chosen.has(box.value)
    if (box.checked) chosen.set(box.value, box.dataset.device)
  }
  const all = $('[data-all-devices]')
  if (all) all.checked = boxes().every(({ checked }) => checked)
  const bar = $('[data-chosen]')
  if (!bar) return
  bar.hidden = chosen.size === 0
  $('[data-count]', bar).textContent = fill(bar.dataset.chosen, { count: chosen.size })
  for (const button of $$('[data-each]', bar)) button.disabled = inStatesOf(button).length === 0
}

const inStatesOf = ({ dataset }) =>
  [...chosen].filter(([, state]) => dataset.states.split(' ').includes(state)).map(([id]) => id)

export function choose(box) {
  const changed = box.dataset.device === undefined ? boxes() : [box]
  for (const { value, dataset } of changed) {
    if (box.checked) chosen.set(value, dataset.device)
    else chosen.delete(value)
  }
  showChosen()
}

/** Makes the button's call for each chosen device whose state allows it, `AT_ONCE` at a time. */
export async function eachChosen(button) {
  const { each, confirm, done, then } = button.dataset
  const ids = inStatesOf(button)
  if (!(await confirmed(fill(confirm, { count: ids.length })))) return
  const [method, path] = each.split(' ')
  const left = ids.values()
  let good = 0
  const faults = new Set()
  const work = async () => {
    for (const id of left) {
      try {
        await call(method, path.replace('{id}', encodeURIComponent(id)))
        chosen.delete(id)
        good++
      } catch (problem) {
        if (!problem.errors) throw problem
        faults.add(problem.detail)
      }
    }
  }
  button.disabled = true
  await Promise.all(Array.from({ length: AT_ONCE }, work))
  say([fill(done, { done: good, count: ids.length }), ...faults].join(' '), faults.size > 0)
  showChosen()
  for (const part of $$(then)) htmx.trigger(part, 'refresh')
}
