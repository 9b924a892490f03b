import type { FC } from 'hono/jsx'
import { iso } from '../../common/time.ts'
import type { Package } from '../../packages/package.ts'
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
  tasks: TaskRow[]
  cursor: string | null
}

export const PackagePage: FC<Props> = ({ pkg, beside, tasks, cursor }) => {
  const { t } = usePage()
  const mayWrite = useMay('operator')
  const path = `/api/v1/packages/${pkg.id}`
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
            <FileFields />
            <DialogEnd action={t('package.upload')} />
          </form>
        </Dialog>
      )}
      {mayWrite && pkg.state === 'ready' && <NewTask pkg={pkg} beside={beside} />}
    </>
  )
}
