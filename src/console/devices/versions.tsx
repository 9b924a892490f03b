import type { FC } from 'hono/jsx'
import type { DeviceModule } from '../../devices/device.ts'

/** The versions that a device runs, in one line. */
export const Versions: FC<{ of: DeviceModule[] | undefined }> = ({ of: modules = [] }) => (
  <>
    {modules
      .map(({ module, version }) => (module === 'default' ? version : `${module} ${version}`))
      .join(', ')}
  </>
)
