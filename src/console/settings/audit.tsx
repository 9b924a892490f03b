import type { FC } from 'hono/jsx'
import type { AuditEntry } from '../../audit/entry.ts'
import { iso } from '../../common/time.ts'
import { usePage } from '../layout/page.tsx'
import { Card, Field, NextPage, Table, Time } from '../layout/parts.tsx'
import { Settings } from './settings.tsx'

export interface AuditFilter {
  action: string | undefined
  target: string | undefined
  /** Who made the change: the id of a key, or `access:` and an email address. */
  keyId: string | undefined
  /** The first and the last day, in UTC (`2026-01-31`). */
  from: string | undefined
  to: string | undefined
}

export const Audit: FC<{ entries: AuditEntry[]; cursor: string | null; filter: AuditFilter }> = ({
  entries,
  cursor,
  filter,
}) => {
  const { t } = usePage()
  return (
    <Settings>
      <Card title={t('settings.audit')}>
        <form class="row" method="get" action="/settings/audit">
          <Field label={t('settings.action')}>
            <input name="action" value={filter.action} maxlength={64} />
          </Field>
          <Field label={t('settings.target')}>
            <input name="target" value={filter.target} maxlength={64} />
          </Field>
          <Field label={t('settings.who')}>
            <input name="keyId" value={filter.keyId} maxlength={256} />
          </Field>
          <Field label={t('settings.fromDay')}>
            <input type="date" name="from" value={filter.from} />
          </Field>
          <Field label={t('settings.toDay')}>
            <input type="date" name="to" value={filter.to} />
          </Field>
          <button type="submit">{t('page.filter')}</button>
        </form>
        <Table
          heads={[
            t('page.time'),
            t('settings.who'),
            t('settings.action'),
            t('settings.target'),
            t('settings.address'),
            t('task.detail'),
          ]}
          rows={entries.map(({ at, keyId, keyName, role, action, target, address, detail }) => (
            <tr>
              <td class="narrow">
                <Time at={iso(at)} />
              </td>
              <td>
                <a href={`/settings/audit?keyId=${encodeURIComponent(keyId)}`}>{keyName}</a>{' '}
                <span class="quiet">{role}</span>
              </td>
              <td class="narrow">{action}</td>
              <td>
                {target && (
                  <a href={`/settings/audit?target=${encodeURIComponent(target)}`}>
                    <code>{target}</code>
                  </a>
                )}
              </td>
              <td class="narrow">{address}</td>
              <td>
                <code>{detail && JSON.stringify(detail)}</code>
              </td>
            </tr>
          ))}
        />
        <NextPage path="/settings/audit" query={{ ...filter }} cursor={cursor} />
      </Card>
    </Settings>
  )
}
