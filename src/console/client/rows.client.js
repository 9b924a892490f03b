import { $$ } from './dom.client.js'

// Parts of a form that are there or not: rows that are added and removed, rules that hold or do not.

/** Fields of rows are named by their place in the list. */
export function nameRows() {
  for (const list of $$('[data-rows]'))
    for (const [index, row] of $$('[data-row]', list).entries())
      for (const field of $$('[data-field]', row))
        field.name = `${list.dataset.rows}.${index}.${field.dataset.field}`
}

/** A choice shows what belongs to it, and hides what belongs to the others. */
export function show(choice) {
  const value = choice.type === 'checkbox' && !choice.checked ? '' : choice.value
  for (const part of $$(`[data-of="${choice.dataset.switches}"]`)) part.hidden = part.dataset.when !== value
}

/** A preset turns its rules on and the others off; `undefined` leaves them as they are. */
export function apply(presets) {
  const { rules } = presets.selectedOptions[0].dataset
  if (rules === undefined) return
  for (const rule of $$('[data-rule]', presets.form)) {
    rule.checked = rules.split(' ').includes(rule.dataset.rule)
    show(rule)
  }
}

/** Who turns a rule on or off has rules of their own. */
export function leavePreset({ form }) {
  const presets = form.querySelector('[data-presets]')
  presets.value = 'own'
}
