import { applyD1Migrations } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { afterEach, expect } from 'vitest'
import { enforceProductionLimits, takeExcesses } from './production-limits.ts'

await applyD1Migrations(env.DB, env.MIGRATIONS)
await enforceProductionLimits()
afterEach(() => expect(takeExcesses(), 'production would have refused').toEqual([]))
