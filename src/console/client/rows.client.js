import { $$ } from './dom.client.js'

// Parts of a form that come and go: rows that are added and removed, rules that are turned on and off.

/** Names the fields of rows by the index of their row. */
export function nameRows() {
  for (const list of $$('[data-rows]'))
    for (const [index, row] of $$('[data-row]', list).entries())
      for (const field of $$('[data-field]', row))
        field.name = `${list.dataset.rows}.${index}.${field.dataset.field}`
}

/** Shows the parts that belong to the choice, and hides those of the other choices. */
export function show(choice) {
  const value = choice.type === 'checkbox' && !choice.checked ? '' : choice.value
  for (const part of $$(`[data-of="${choice.dataset.switches}"]`)) part.hidden = part.dataset.when !== value
}

/** Turns the preset's rules on and the others off; a preset without `data-rules` leaves them as they are. */
export function apply(presets) {
  const { rules } = presets.selectedOptions[0].dataset
  if (rules === undefined) return
  for (const rule of $$('[data-rule]', presets.form)) {
    rule.checked = rules.split(' ').includes(rule.dataset.rule)
    show(rule)
  }
}

/** An operator turned a rule on or off: from now on the preset is "own rules". */
export function leavePreset({ form }) {
  const presets = form.querySelector('[data-presets]')
  presets.value = 'own'
}
