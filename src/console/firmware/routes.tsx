import { Hono } from 'hono'
import { notFound } from '../../common/errors.ts'
import { openDb } from '../../db/client.ts'
import { page } from '../../http/openapi.ts'
import { findPackage, listNewestPackages, packagesBeside } from '../../packages/store.ts'
import { listProducts } from '../../products/store.ts'
import { listKeysInForce, listNewestSigningKeys } from '../../signing/store.ts'
import { listNewestTasks, newestCursor } from '../../tasks/database/tasks.ts'
import { type ConsoleEnv, render } from '../layout/page.tsx'
import { PackageList } from './package-list.tsx'
import { PackagePage } from './package-page.tsx'

const PAGE_SIZE = 50
const MAX_PRODUCTS = 200
const MAX_KEYS = 400
/** A task has at most 50 packages. */
const MAX_BESIDE = 49

export const firmwarePages = new Hono<ConsoleEnv>()
  .get('/firmware', async (c) => {
    const tenantId = c.var.principal.tenantId!
    const db = openDb(c.env.DB)
    const { productId, name, cursor } = c.req.query()
    const [rows, products, keys] = await Promise.all([
      listNewestPackages(
        db,
        tenantId,
        { productId: productId || undefined, name: name || undefined },
        PAGE_SIZE,
        cursor,
      ),
      listProducts(db, tenantId, MAX_PRODUCTS),
      listKeysInForce(db, tenantId, MAX_KEYS),
    ])
    const { items, nextCursor } = page(rows, PAGE_SIZE, ({ id }) => id)
    const list = { packages: items, products, keys, filter: { productId, name }, cursor: nextCursor }
    return render(c, 'nav.firmware', <PackageList {...list} />)
  })
  .get('/packages/:id', async (c) => {
    const tenantId = c.var.principal.tenantId!
    const db = openDb(c.env.DB)
    const pkg = await findPackage(db, { tenantId, packageId: c.req.param('id') })
    if (!pkg) throw notFound('package')
    const [rows, beside, keys] = await Promise.all([
      listNewestTasks(db, tenantId, { packageId: pkg.id }, PAGE_SIZE, c.req.query('cursor')),
      packagesBeside(db, pkg, MAX_BESIDE),
      listNewestSigningKeys(db, { tenantId, productId: pkg.productId }, PAGE_SIZE),
    ])
    const signedBy = keys.find(({ id }) => id === pkg.signatureKeyId)
    const { items, nextCursor } = page(rows, PAGE_SIZE, newestCursor)
    const shown = { pkg, beside, keys, signedBy, tasks: items, cursor: nextCursor }
    return render(c, pkg.name, <PackagePage {...shown} />)
  })
