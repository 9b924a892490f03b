import type { FC } from 'hono/jsx'
import { usePage } from '../layout/page.tsx'
import { Field } from '../layout/parts.tsx'

/** The task's devices: all of the product, chosen from a list, by number, or by a filter. */
export const NewTaskDevices: FC<{ productId: string }> = ({ productId }) => {
  const { t } = usePage()
  return (
    <fieldset>
      <legend>{t('task.devices')}</legend>
      <Field label={t('task.whom')}>
        <select data-switches="devices" name="devices" data-type="whom">
          <option value="all">{t('task.all')}</option>
          <option value="list">{t('task.list')}</option>
          <option value="numbers">{t('task.numbers')}</option>
          <option value="filter">{t('task.filter')}</option>
        </select>
      </Field>
      <div data-of="devices" data-when="list" hidden>
        <Picker productId={productId} />
      </div>
      <span data-of="devices" data-when="numbers" hidden>
        <Field label={t('task.numbers')} hint={t('task.numbersHint')}>
          <textarea name="devices.numbers" data-type="lines" />
        </Field>
      </span>
      <span data-of="devices" data-when="filter" hidden class="row">
        <Field label={t('task.versions')} hint={t('device.tagsHint')}>
          <input name="devices.filter.versions" data-type="lines" />
        </Field>
        <Field label={t('device.tags')} hint={t('device.tagsHint')}>
          <input name="devices.filter.tags" data-type="lines" />
        </Field>
        <Field label={t('page.search')}>
          <input name="devices.filter.search" maxlength={64} />
        </Field>
      </span>
    </fieldset>
  )
}

const Picker: FC<{ productId: string }> = ({ productId }) => {
  const { t } = usePage()
  const path = `/devices/choice?productId=${encodeURIComponent(productId)}`
  return (
    <div class="stack">
      <div id="picked" class="row" data-picked={t('task.chosen')}>
        <span data-count role="status">
          {t('task.chosen', { count: 0 })}
        </span>
        <template>
          <label class="check">
            <input type="checkbox" name="devices.ids" data-list checked />
            <span />
          </label>
        </template>
      </div>
      <Field label={t('page.search')}>
        <input
          type="search"
          name="search"
          data-asks
          maxlength={128}
          placeholder={t('device.searchHint')}
          hx-get={path}
          hx-trigger="input changed delay:250ms"
          hx-target="#choice"
        />
      </Field>
      <div id="choice" hx-get={path} hx-trigger="intersect once" />
    </div>
  )
}
