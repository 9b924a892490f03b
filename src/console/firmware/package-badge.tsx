import type { FC } from 'hono/jsx'
import type { Package } from '../../packages/package.ts'
import { usePage } from '../layout/page.tsx'

const LOOKS = { draft: '', verifying: 'busy', ready: 'good', recalled: 'bad' }

export const PackageBadge: FC<{ of: Package['state'] }> = ({ of }) => (
  <span class={`badge ${LOOKS[of]}`}>{usePage().t(`package.${of}`)}</span>
)
