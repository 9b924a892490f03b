import type { FC } from 'hono/jsx'
import type { ApiKey } from '../../auth/store.ts'
import { iso } from '../../common/time.ts'
import { usePage } from '../layout/page.tsx'
import { Card, Dialog, DialogEnd, Field, NextPage, Table, Time } from '../layout/parts.tsx'
import { Settings } from './settings.tsx'

const ROLES = ['viewer', 'operator', 'admin', 'bridge'] as const

export const Keys: FC<{ keys: ApiKey[]; cursor: string | null }> = ({ keys, cursor }) => {
  const { t } = usePage()
  const add = (
    <button type="button" class="main" data-opens="#new-key">
      {t('settings.newKey')}
    </button>
  )
  return (
    <Settings action={add}>
      <section id="made-key" class="card" hidden tabindex={-1}>
        <p>{t('settings.keyOnce')}</p>
        <code data-secret />
      </section>
      <Card title={t('settings.keys')}>
        <Table
          heads={[
            t('page.name'),
            t('settings.role'),
            t('page.created'),
            t('settings.lastUsed'),
            t('page.actions'),
          ]}
          rows={keys.map(({ id, name, role, bridge, createdAt, lastUsedAt, revokedAt }) => (
            <tr>
              <td>{name}</td>
              <td>
                {role} {bridge}
              </td>
              <td class="narrow">
                <Time at={iso(createdAt)} />
              </td>
              <td class="narrow">
                <Time at={iso(lastUsedAt)} />
              </td>
              <td>
                {revokedAt === null ? (
                  <button
                    type="button"
                    class="plain"
                    data-api={`DELETE /api/v1/keys/${id}`}
                    data-confirm={t('settings.revokeAsk', { name })}
                  >
                    {t('settings.revoke')}
                  </button>
                ) : (
                  <span class="badge bad">{t('settings.revoked')}</span>
                )}
              </td>
            </tr>
          ))}
        />
        <NextPage path="/settings" query={{}} cursor={cursor} />
      </Card>
      <Dialog id="new-key" title={t('settings.newKey')}>
        <form data-api="POST /api/v1/keys" data-shows="key" data-shows-in="#made-key">
          <Field label={t('page.name')}>
            <input name="name" required maxlength={128} />
          </Field>
          <Field label={t('settings.role')}>
            <select name="role" data-switches="role">
              {ROLES.map((role) => (
                <option>{role}</option>
              ))}
            </select>
          </Field>
          <span data-of="role" data-when="bridge" hidden>
            <Field label={t('product.bridge')}>
              <input name="bridge" maxlength={64} value="default" />
            </Field>
          </span>
          <DialogEnd action={t('page.save')} />
        </form>
      </Dialog>
    </Settings>
  )
}
