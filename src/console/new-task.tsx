import type { FC } from 'hono/jsx'
import type { Package } from '../packages/store.ts'
import { usePage } from './page.tsx'
import { Dialog, Field } from './parts.tsx'

const DAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const
const WAVES = [1, 20, 100]

/** Add Upgrade Task: when, to whom, how carefully; and what it would do, before it is confirmed. */
export const NewTask: FC<{ pkg: Package }> = ({ pkg }) => {
  const { t } = usePage()
  return (
    <Dialog id="new-task" title={t('task.add')}>
      <form
        data-api="POST /api/v1/tasks"
        data-then="/tasks/{id}"
        data-preview-api="/api/v1/tasks/preview"
        data-preview-text={t('task.previewText')}
        data-preview-skipped={t('task.previewSkipped')}
        data-preview-ends={t('task.previewEnds')}
      >
        <input type="hidden" name="packageId" value={pkg.id} />
        <Field label={t('page.name')}>
          <input name="name" required maxlength={128} value={`${pkg.name} ${pkg.version}`} />
        </Field>
        <Field label={t('page.description')} hint={t('page.optional')}>
          <input name="description" maxlength={1024} />
        </Field>
        <When />
        <Devices />
        <Policy />
        <output class="card" data-preview hidden />
        <p class="fault" data-fault role="alert" />
        <div class="buttons">
          <button type="button" data-closes>
            {t('page.cancel')}
          </button>
          <button type="button" data-previews>
            {t('task.preview')}
          </button>
          <button type="submit" class="main">
            {t('task.create')}
          </button>
        </div>
      </form>
    </Dialog>
  )
}

const When: FC = () => {
  const { t } = usePage()
  return (
    <fieldset>
      <legend>{t('task.when')}</legend>
      <Field label={t('task.start')}>
        <select data-switches="start">
          <option value="now">{t('task.now')}</option>
          <option value="later">{t('task.later')}</option>
        </select>
      </Field>
      <span data-of="start" data-when="later" hidden>
        <Field label={t('task.startAt')}>
          <input type="datetime-local" name="startAt" data-type="datetime" />
        </Field>
        <small>
          {t('task.zone')} <span data-zone />
        </small>
      </span>
      <Field label={t('task.endAt')} hint={t('page.optional')}>
        <input type="datetime-local" name="endAt" data-type="datetime" />
      </Field>
    </fieldset>
  )
}

const Devices: FC = () => {
  const { t } = usePage()
  return (
    <fieldset>
      <legend>{t('task.devices')}</legend>
      <Field label={t('task.whom')}>
        <select data-switches="devices" name="devices" data-type="whom">
          <option value="all">{t('task.all')}</option>
          <option value="numbers">{t('task.numbers')}</option>
          <option value="filter">{t('task.filter')}</option>
        </select>
      </Field>
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

const Policy: FC = () => {
  const { t } = usePage()
  return (
    <fieldset>
      <legend>{t('task.policy')}</legend>
      <Field label={t('task.preset')}>
        <select data-switches="preset">
          <option value="all">{t('task.presetAll')}</option>
          <option value="careful">{t('task.presetCareful')}</option>
          <option value="night">{t('task.presetNight')}</option>
        </select>
      </Field>
      <div data-of="preset" data-when="careful" hidden>
        {WAVES.map((percent, index) => (
          <div class="row">
            <Field label={t('task.wave', { number: index + 1 })}>
              <input
                type="number"
                name={`policy.waves.${index}.percent`}
                value={percent}
                min="0.01"
                max="100"
                step="any"
              />
            </Field>
            <Field label={t('task.successPercent')}>
              <input
                type="number"
                name={`policy.waves.${index}.successPercent`}
                value={95}
                min="0"
                max="100"
              />
            </Field>
            <Field label={t('task.soakMinutes')}>
              <input
                type="number"
                name={`policy.waves.${index}.soakMinutes`}
                value={index === 0 ? 30 : 0}
                min="0"
              />
            </Field>
          </div>
        ))}
        <div class="row">
          <Field label={t('task.failurePercent')}>
            <input type="number" name="policy.haltOn.failurePercent" value={10} min="0" max="100" />
          </Field>
          <Field label={t('task.minFinished')}>
            <input type="number" name="policy.haltOn.minFinished" value={20} min="1" />
          </Field>
        </div>
      </div>
      <div data-of="preset" data-when="night" hidden>
        <div class="row">
          {DAYS.map((day) => (
            <label class="check">
              <input type="checkbox" name="policy.window.days" value={day} data-list checked />
              <span>{t(`day.${day}`)}</span>
            </label>
          ))}
        </div>
        <div class="row">
          <Field label={t('task.from')}>
            <input type="time" name="policy.window.from" value="01:00" />
          </Field>
          <Field label={t('task.until')}>
            <input type="time" name="policy.window.to" value="05:00" />
          </Field>
          <Field label={t('task.zone')}>
            <input name="policy.window.timeZone" data-zone-value maxlength={64} />
          </Field>
        </div>
      </div>
      <details>
        <summary>{t('task.more')}</summary>
        <div class="row">
          <Field label={t('task.rate')} hint={t('page.optional')}>
            <input type="number" name="policy.ratePerMinute" min="1" />
          </Field>
          <Field label={t('task.timeout')}>
            <input type="number" name="policy.deviceTimeoutMinutes" value={60} min="1" />
          </Field>
          <Field label={t('task.retries')}>
            <input type="number" name="policy.autoRetry.times" value={0} min="0" max="10" />
          </Field>
          <Field label={t('task.backoff')}>
            <input type="number" name="policy.autoRetry.backoffMinutes" value={10} min="0" />
          </Field>
          <Field label={t('task.mismatch')}>
            <input type="number" name="policy.mismatchPushes" value={3} min="0" max="10" />
          </Field>
          <Field label={t('task.onBusy')}>
            <select name="policy.onBusy">
              {(['replace', 'wait', 'fail'] as const).map((value) => (
                <option value={value}>{t(`task.busy.${value}`)}</option>
              ))}
            </select>
          </Field>
          <Field label={t('task.confirm')}>
            <select name="policy.confirm">
              <option value="progress">{t('task.confirm.progress')}</option>
              <option value="version">{t('task.confirm.version')}</option>
            </select>
          </Field>
          <label class="check">
            <input type="checkbox" name="policy.dynamic" />
            <span>{t('task.dynamic')}</span>
          </label>
        </div>
      </details>
    </fieldset>
  )
}
