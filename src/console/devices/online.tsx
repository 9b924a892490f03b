import type { FC } from 'hono/jsx'
import { usePage } from '../layout/page.tsx'

export const Online: FC<{ of: boolean | null }> = ({ of }) => {
  const { t } = usePage()
  if (of === null) return <span class="badge">{t('device.isUnknown')}</span>
  return of ? (
    <span class="badge good">{t('device.isOnline')}</span>
  ) : (
    <span class="badge">{t('device.isOffline')}</span>
  )
}
