import type { FC } from 'hono/jsx'
import type { Device, DeviceModule } from '../../devices/device.ts'
import { usePage } from '../layout/page.tsx'
import { Table } from '../layout/parts.tsx'
import { Online } from './online.tsx'
import { Versions } from './versions.tsx'

interface Props {
  devices: Device[]
  modules: Map<string, DeviceModule[]>
  isAll: boolean
}

/** A list of devices to choose from. A device stays chosen while the search shows others (`pick.client.js`). */
export const DeviceChoice: FC<Props> = ({ devices, modules, isAll }) => {
  const { t } = usePage()
  return (
    <>
      <Table
        caption={t('task.devices')}
        heads={[
          t('task.chosenHead'),
          t('device.number'),
          t('page.name'),
          t('device.version'),
          t('device.online'),
        ]}
        rows={devices.map(({ id, number, name, online }) => (
          <tr>
            <td>
              <input
                type="checkbox"
                value={id}
                data-pick={number}
                aria-label={t('task.choose', { number })}
              />
            </td>
            <td>{number}</td>
            <td>{name}</td>
            <td>
              <Versions of={modules.get(id)} />
            </td>
            <td>
              <Online of={online} />
            </td>
          </tr>
        ))}
      />
      {!isAll && <small>{t('task.listMore', { count: devices.length })}</small>}
    </>
  )
}
