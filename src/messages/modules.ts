import { DEFAULT_MODULE } from '../protocol/device.ts'
import { type Reason, reason } from '../reasons/reason.ts'
import type { Sender } from './identify.ts'

// Which module a device means by the name that it gives (src/protocol/README.md#modules). Pure.

/** A device has at most so many; each is a row that it makes. */
export const MAX_MODULES = 32

/** `named`: what the device called it, if it is known by another name. */
export interface MeantModule {
  module: string
  named?: string
}

/** The module that is known by this name: the product's word for `default`, else one that something here has. */
export function knownModule({ modules, defaultModuleParam }: Sender, name: string): MeantModule | undefined {
  if (name === defaultModuleParam) return { module: DEFAULT_MODULE }
  if (name === DEFAULT_MODULE || modules.has(name)) return { module: name }
  const lower = name.toLowerCase()
  if (lower === defaultModuleParam?.toLowerCase()) return { module: DEFAULT_MODULE, named: name }
  const alike = [...modules, DEFAULT_MODULE].find((module) => module.toLowerCase() === lower)
  return alike === undefined ? undefined : { module: alike, named: name }
}

/** The module of a version report. A name that nothing has is a new module. */
export function moduleOfReport(sender: Sender, name: string): MeantModule | Reason {
  const meant = knownModule(sender, name) ?? { module: name }
  const { modules, ownModules } = sender
  if (!ownModules.has(meant.module) && ownModules.size >= MAX_MODULES) return reason('too_many_modules')
  modules.add(meant.module)
  ownModules.add(meant.module)
  return meant
}

/** The module of progress; null if it names none. A name that nothing has means the one upgrade under way. */
export function moduleOfProgress(sender: Sender, name: string | null): MeantModule | Reason | null {
  if (name === null) return null
  const known = knownModule(sender, name)
  if (known) return known
  const [only, ...others] = sender.slots.filter(({ active }) => active)
  return only && others.length === 0 ? { module: only.module, named: name } : reason('unknown_module')
}
