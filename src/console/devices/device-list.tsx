import type { FC } from 'hono/jsx'
import type { Device, DeviceModule } from '../../devices/device.ts'
import type { Product } from '../../products/product.ts'
import { useMay, usePage } from '../layout/page.tsx'
import { Card, Field, NextPage, Table } from '../layout/parts.tsx'
import { ProductChoice } from '../products/product-choice.tsx'
import { Import, NewDevice } from './device-dialogs.tsx'
import { Online } from './online.tsx'
import { Versions } from './versions.tsx'

export type Filter = Record<
  'productId' | 'search' | 'version' | 'tag' | 'online' | 'rolledBack',
  string | undefined
>

interface Props {
  devices: Device[]
  modules: Map<string, DeviceModule[]>
  products: Product[]
  filter: Filter
  cursor: string | null
}

export const DeviceList: FC<Props> = ({ devices, modules, products, filter, cursor }) => {
  const { t } = usePage()
  const mayWrite = useMay('operator')
  const names = new Map(products.map(({ id, name }) => [id, name]))
  return (
    <>
      <div class="top">
        <h1>{t('nav.devices')}</h1>
        {mayWrite && products.length > 0 && (
          <div class="row">
            <button type="button" data-opens="#import">
              {t('device.import')}
            </button>
            <button type="button" class="main" data-opens="#new-device">
              {t('device.add')}
            </button>
          </div>
        )}
      </div>
      <Card>
        <form class="row" method="get" action="/devices">
          <Field label={t('page.search')}>
            <input name="search" value={filter.search} maxlength={128} placeholder={t('device.searchHint')} />
          </Field>
          <Field label={t('product.one')}>
            <ProductChoice products={products} chosen={filter.productId} withAll />
          </Field>
          <Field label={t('device.version')}>
            <input name="version" value={filter.version} maxlength={64} size={10} />
          </Field>
          <Field label={t('device.tag')}>
            <input name="tag" value={filter.tag} maxlength={64} size={10} />
          </Field>
          <Field label={t('device.online')}>
            <select name="online">
              <option value="">{t('page.all')}</option>
              <option value="true" selected={filter.online === 'true'}>
                {t('device.isOnline')}
              </option>
              <option value="false" selected={filter.online === 'false'}>
                {t('device.isOffline')}
              </option>
            </select>
          </Field>
          <label class="check">
            <input type="checkbox" name="rolledBack" value="true" checked={filter.rolledBack === 'true'} />
            <span>{t('device.rolledBack')}</span>
          </label>
          <button type="submit">{t('page.filter')}</button>
        </form>
      </Card>
      <Card>
        <Table
          heads={[
            t('device.number'),
            t('page.name'),
            t('product.one'),
            t('device.version'),
            t('device.online'),
            t('device.tags'),
          ]}
          rows={devices.map((device) => (
            <tr>
              <td>
                <a href={`/devices/${device.id}`}>{device.number}</a>{' '}
                {!device.enabled && <span class="badge bad">{t('device.disabled')}</span>}
              </td>
              <td>{device.name}</td>
              <td>{names.get(device.productId) ?? device.productId}</td>
              <td>
                <Versions of={modules.get(device.id)} />
              </td>
              <td>
                <Online of={device.online} />
              </td>
              <td>{device.tags.join(', ')}</td>
            </tr>
          ))}
        />
        <NextPage path="/devices" query={filter} cursor={cursor} />
      </Card>
      {mayWrite && <NewDevice products={products} chosen={filter.productId} />}
      {mayWrite && <Import products={products} chosen={filter.productId} />}
    </>
  )
}
