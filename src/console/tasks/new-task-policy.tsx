import type { FC, PropsWithChildren } from 'hono/jsx'
import { usePage } from '../layout/page.tsx'
import { Field } from '../layout/parts.tsx'

const DAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const
const RETRIED = ['timeout', '-1', '-2', '-3', '-4'] as const
const CAREFUL = [1, 20, 100]

/** Value, text, and the rules that the preset turns on; it turns the others off. `own` leaves all as they are. */
const PRESETS = [
  ['all', 'task.presetAll', ''],
  ['careful', 'task.presetCareful', 'waves halt'],
  ['night', 'task.presetNight', 'window'],
  ['own', 'task.presetOwn', undefined],
] as const

/** The fields of the task's `policy`. An operator can change each of them after choosing a preset. */
export const NewTaskPolicy: FC = () => {
  const { t } = usePage()
  return (
    <fieldset>
      <legend>{t('task.policy')}</legend>
      <Field label={t('task.preset')}>
        <select data-presets>
          {PRESETS.map(([value, text, rules]) => (
            <option value={value} data-rules={rules}>
              {t(text)}
            </option>
          ))}
        </select>
      </Field>
      <Rule name="waves" label={t('task.inWaves')}>
        <Waves />
      </Rule>
      <Rule name="halt" label={t('task.halts')}>
        <div class="row">
          <Count label={t('task.failurePercent')} name="policy.haltOn.failurePercent" value={10} max={100} />
          <Count label={t('task.minFinished')} name="policy.haltOn.minFinished" value={20} min={1} />
        </div>
      </Rule>
      <Rule name="window" label={t('task.inWindow')}>
        <Window />
      </Rule>
      <details>
        <summary>{t('task.more')}</summary>
        <MoreRules />
      </details>
    </fieldset>
  )
}

/** A rule with a check box; its fields are shown, and sent, only while it is checked. */
const Rule: FC<PropsWithChildren<{ name: string; label: string }>> = ({ name, label, children }) => (
  <>
    <label class="check">
      <input type="checkbox" data-rule={name} data-switches={name} value="on" />
      <span>{label}</span>
    </label>
    <div data-of={name} data-when="on" hidden>
      {children}
    </div>
  </>
)

interface CountProps {
  label: string
  name: string
  value?: number
  min?: number
  max?: number
  hint?: string
}

const Count: FC<CountProps> = ({ label, name, value, min = 0, max, hint }) => (
  <Field label={label} {...(hint !== undefined && { hint })}>
    <input type="number" name={name} value={value} min={min} max={max} />
  </Field>
)

const Waves: FC = () => {
  const { t } = usePage()
  return (
    <div data-rows="policy.waves" class="stack">
      {CAREFUL.map((percent, index) => (
        <Wave percent={percent} soakMinutes={index === 0 ? 30 : 0} index={index} />
      ))}
      <template id="wave">
        <Wave percent={undefined} soakMinutes={0} index={0} />
      </template>
      <div>
        <button type="button" data-adds="#wave">
          {t('task.addWave')}
        </button>
      </div>
    </div>
  )
}

interface WaveProps {
  percent: number | undefined
  soakMinutes: number
  index: number
}

const Wave: FC<WaveProps> = ({ percent, soakMinutes, index }) => {
  const { t } = usePage()
  const nameOf = (field: string) => ({ name: `policy.waves.${index}.${field}`, 'data-field': field })
  return (
    <div class="row" data-row>
      <Field label={t('task.wave')}>
        <input type="number" {...nameOf('percent')} value={percent} min="0.01" max="100" step="any" />
      </Field>
      <Field label={t('task.successPercent')}>
        <input type="number" {...nameOf('successPercent')} value={95} min="0" max="100" step="any" />
      </Field>
      <Field label={t('task.soakMinutes')}>
        <input type="number" {...nameOf('soakMinutes')} value={soakMinutes} min="0" step="any" />
      </Field>
      <button type="button" data-removes="[data-row]">
        {t('page.delete')}
      </button>
    </div>
  )
}

const Window: FC = () => {
  const { t } = usePage()
  return (
    <div class="stack">
      <div class="row">
        {DAYS.map((day) => (
          <label class="check">
            <input type="checkbox" name="policy.window.days" value={day} data-list checked />
            <span>{t(`day.${day}`)}</span>
          </label>
        ))}
      </div>
      <div class="row">
        <Field label={t('task.since')}>
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
  )
}

const MoreRules: FC = () => {
  const { t } = usePage()
  return (
    <div class="stack">
      <div class="row">
        <Count label={t('task.rate')} name="policy.ratePerMinute" min={1} hint={t('page.optional')} />
        <Count label={t('task.timeout')} name="policy.deviceTimeoutMinutes" value={60} min={1} />
        <Count label={t('task.mismatch')} name="policy.mismatchPushes" value={3} max={10} />
        <Count
          label={t('task.linkSeconds')}
          name="policy.downloadTtlSeconds"
          min={1}
          hint={t('page.optional')}
        />
      </div>
      <div class="row">
        <Count label={t('task.retries')} name="policy.autoRetry.times" value={0} max={10} />
        <Count label={t('task.backoff')} name="policy.autoRetry.backoffMinutes" value={10} />
      </div>
      <fieldset class="row">
        <legend>{t('task.retryOn')}</legend>
        {RETRIED.map((cause) => (
          <label class="check">
            <input
              type="checkbox"
              name="policy.autoRetry.on"
              value={cause}
              data-list
              data-type={cause === 'timeout' ? undefined : 'number'}
            />
            <span>{t(`task.retryOn.${cause}`)}</span>
          </label>
        ))}
      </fieldset>
      <div class="row">
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
    </div>
  )
}
