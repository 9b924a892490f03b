import { Hono } from 'hono'
import { notFound } from '../../common/errors.ts'
import { openDb } from '../../db/client.ts'
import { readVersions } from '../../fleet/store.ts'
import { page } from '../../http/openapi.ts'
import { findProduct, listProducts } from '../../products/store.ts'
import { listNewestSigningKeys } from '../../signing/store.ts'
import { type ConsoleEnv, render } from '../layout/page.tsx'
import { ProductList } from './product-list.tsx'
import { ProductPage } from './product-page.tsx'

const PAGE_SIZE = 50
const MAX_VERSIONS = 12

export const productPages = new Hono<ConsoleEnv>()
  .get('/products', async (c) => {
    const rows = await listProducts(
      openDb(c.env.DB),
      c.var.principal.tenantId!,
      PAGE_SIZE,
      c.req.query('cursor'),
    )
    const { items, nextCursor } = page(rows, PAGE_SIZE, ({ id }) => id)
    return render(c, 'nav.products', <ProductList products={items} cursor={nextCursor} />)
  })
  .get('/products/:id', async (c) => {
    const tenantId = c.var.principal.tenantId!
    const db = openDb(c.env.DB)
    const product = await findProduct(db, tenantId, c.req.param('id'))
    if (!product) throw notFound('product')
    const [versions, keys] = await Promise.all([
      readVersions(c.env.DB, tenantId, product.id, MAX_VERSIONS),
      listNewestSigningKeys(db, { tenantId, productId: product.id }, PAGE_SIZE),
    ])
    return render(c, product.name, <ProductPage product={product} versions={versions} keys={keys} />)
  })
