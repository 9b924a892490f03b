import type { FC } from 'hono/jsx'
import { iso } from '../../common/time.ts'
import type { Package } from '../../packages/package.ts'
import type { SigningKey } from '../../signing/signing-key.ts'
import type { TaskRow } from '../../tasks/database/tasks.ts'
import { useMay, usePage } from '../layout/page.tsx'
import { Card, CountsBar, Dialog, DialogEnd, NextPage, Table, TaskBadge, Time } from '../layout/parts.tsx'
import { NewTask } from '../tasks/new-task.tsx'
import { FileFields } from './file-fields.tsx'
import { PackageBadge } from './package-badge.tsx'

interface Props {
  pkg: Package
  /** Other packages that a task of this package can send too. */
  beside: Package[]
  /** The product's signing keys, and the one that signed this package. */
  keys: SigningKey[]
  signedBy: SigningKey | undefined
  tasks: TaskRow[]
  cursor: string | null
}

export const PackagePage: FC<Props> = ({ pkg, beside, keys, signedBy, tasks, cursor }) => {
  const { t } = usePage()
  const mayWrite = useMay('operator')
  const path = `/api/v1/packages/${pkg.id}`
  const keysInForce = keys.filter(({ retiredAt }) => retiredAt === null)
  return (
    <>
      <div class="top">
        <h1>
          {pkg.name} {pkg.version} <PackageBadge of={pkg.state} />
        </h1>
        {mayWrite && (
          <div class="row">
            {pkg.state === 'draft' && (
              <button type="button" data-opens="#upload">
                {t('package.upload')}
              </button>
            )}
            {pkg.state === 'ready' && (
              <>
                <button
                  type="button"
                  class="danger"
                  data-api={`POST ${path}/recall`}
                  data-confirm={t('package.recallAsk')}
                >
                  {t('package.recall')}
                </button>
                <button type="button" class="main" data-opens="#new-task">
                  {t('task.add')}
                </button>
              </>
            )}
          </div>
        )}
      </div>
      {pkg.state === 'verifying' && (
        <p
          class="quiet"
          hx-get={`/packages/${pkg.id}`}
          hx-trigger="every 2s"
          hx-target="#content"
          hx-select="#content"
          hx-swap="outerMorph"
        >
          {t('package.isVerifying')}
        </p>
      )}
      {pkg.error !== null && <p class="fault">{pkg.error}</p>}
      <Card>
        <dl>
          <dt>{t('device.module')}</dt>
          <dd>{pkg.module}</dd>
          <dt>{t('package.kind')}</dt>
          <dd>{pkg.kind === 'diff' ? `${t('package.diff')} (${pkg.sourceVersion})` : t('package.full')}</dd>
          <dt>{t('package.file')}</dt>
          <dd>
            {pkg.filename ?? '–'}{' '}
            {pkg.size !== null && <span class="quiet">{t('package.bytes', { count: pkg.size })}</span>}
          </dd>
          <dt>{pkg.signMethod}</dt>
          <dd>
            <code>{pkg.sign ?? '–'}</code>
          </dd>
          {pkg.signMethod === 'MD5' && pkg.sha256 !== null && (
            <>
              <dt>SHA256</dt>
              <dd>
                <code>{pkg.sha256}</code>
              </dd>
            </>
          )}
          <dt>{t('package.signature')}</dt>
          <dd>
            <Signature pkg={pkg} by={signedBy} />
          </dd>
          {pkg.signature !== null && (
            <>
              <dt>{t('package.counter')}</dt>
              <dd>{pkg.securityCounter}</dd>
            </>
          )}
          <dt>{t('page.description')}</dt>
          <dd>{pkg.description ?? '–'}</dd>
          {pkg.extData && (
            <>
              <dt>{t('package.extData')}</dt>
              <dd>
                <pre tabindex={0}>{JSON.stringify(pkg.extData, null, 2)}</pre>
              </dd>
            </>
          )}
        </dl>
      </Card>
      <Card title={t('task.many')}>
        <Table
          heads={[t('page.name'), t('page.status'), t('task.progress'), t('task.start'), t('page.actions')]}
          rows={tasks.map(({ id, name, status, counts, startAt }) => (
            <tr>
              <td>{name}</td>
              <td>
                <TaskBadge of={status} isEmpty={counts.total === 0} />
              </td>
              <td>
                <CountsBar counts={counts} />
                <span class="quiet">
                  {counts.success} / {counts.total}
                </span>
              </td>
              <td class="narrow">
                <Time at={iso(startAt)} />
              </td>
              <td>
                <a href={`/tasks/${id}`} aria-label={`${t('package.view')}: ${name}`}>
                  {t('package.view')}
                </a>
              </td>
            </tr>
          ))}
        />
        <NextPage path={`/packages/${pkg.id}`} query={{}} cursor={cursor} />
      </Card>
      {mayWrite && pkg.state === 'draft' && (
        <Dialog id="upload" title={t('package.upload')}>
          <form data-upload={path}>
            <FileFields keys={keysInForce} />
            <DialogEnd action={t('package.upload')} />
          </form>
        </Dialog>
      )}
      {mayWrite && pkg.state === 'ready' && <NewTask pkg={pkg} beside={beside} />}
    </>
  )
}

/** Who signed a package, and when that was verified. */
const Signature: FC<{ pkg: Package; by: SigningKey | undefined }> = ({ pkg, by }) => {
  const { t } = usePage()
  if (pkg.signature === null) return <>{t('package.unsigned')}</>
  return (
    <>
      {t('package.signedBy', { name: by?.name ?? pkg.signatureKeyId ?? '–' })}{' '}
      {by?.retiredAt != null && <span class="badge bad">{t('signing.retired')}</span>}{' '}
      {pkg.signatureVerifiedAt === null ? (
        <span class="quiet">{t('package.notVerified')}</span>
      ) : (
        <span class="quiet">
          {t('package.verifiedAt')} <Time at={iso(pkg.signatureVerifiedAt)} />
        </span>
      )}
      <br />
      <code>{pkg.signature}</code>
    </>
  )
}
