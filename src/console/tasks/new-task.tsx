import type { FC } from 'hono/jsx'
import type { Package } from '../../packages/package.ts'
import { reason } from '../../reasons/reason.ts'
import { SKIP_CODES } from '../../tasks/api/preview.ts'
import { WARNING_CODES } from '../../tasks/api/warnings.ts'
import { usePage } from '../layout/page.tsx'
import { Dialog, Field } from '../layout/parts.tsx'
import { reasonTemplate, reasonText } from '../reasons.ts'
import { NewTaskDevices } from './new-task-devices.tsx'
import { NewTaskPolicy } from './new-task-policy.tsx'

/** The form of a new task: packages, time, devices and policy. It shows a preview before the task is created. */
export const NewTask: FC<{ pkg: Package; beside: Package[] }> = ({ pkg, beside }) => {
  const { t, language } = usePage()
  const reasons = Object.fromEntries(SKIP_CODES.map((code) => [code, reasonText(reason(code), language)]))
  const warnings = Object.fromEntries(WARNING_CODES.map((code) => [code, reasonTemplate(code, language)]))
  return (
    <Dialog id="new-task" title={t('task.add')}>
      <form
        data-api="POST /api/v1/tasks"
        data-then="/tasks/{id}"
        data-preview-api="/api/v1/tasks/preview"
        data-preview-text={t('task.previewText')}
        data-preview-bytes={t('task.previewBytes')}
        data-preview-skipped={t('task.previewSkipped')}
        data-preview-reasons={JSON.stringify(reasons)}
        data-preview-warnings={JSON.stringify(warnings)}
        data-preview-not-reached={t('task.previewNotReached')}
        data-confirm={t('task.createAsk')}
        data-preview-ends={t('task.previewEnds')}
      >
        <input type="hidden" name="packageIds" value={pkg.id} data-list />
        <Field label={t('page.name')}>
          <input name="name" required maxlength={128} value={`${pkg.name} ${pkg.version}`} />
        </Field>
        <Field label={t('page.description')} hint={t('page.optional')}>
          <input name="description" maxlength={1024} />
        </Field>
        {beside.length > 0 && <Beside packages={beside} />}
        <When />
        <NewTaskDevices productId={pkg.productId} />
        <NewTaskPolicy />
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
      </span>
      <Field label={t('task.endAt')} hint={t('page.optional')}>
        <input type="datetime-local" name="endAt" data-type="datetime" />
      </Field>
      <small>
        {t('task.zone')} <span data-zone />
      </small>
    </fieldset>
  )
}

const Beside: FC<{ packages: Package[] }> = ({ packages }) => {
  const { t } = usePage()
  return (
    <fieldset>
      <legend>{t('task.together')}</legend>
      {packages.map(({ id, name, kind, sourceVersion }) => (
        <label class="check">
          <input type="checkbox" name="packageIds" value={id} data-list />
          <span>
            {name} {kind === 'diff' ? `${t('package.diff')} (${sourceVersion})` : t('package.full')}
          </span>
        </label>
      ))}
      <small>{t('task.togetherHint')}</small>
    </fieldset>
  )
}
