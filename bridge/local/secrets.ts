import { randomBytes } from 'node:crypto'
import { dirname } from 'node:path'
import { publishedSecrets, SECRETS, type SecretName } from '../../src/common/published-secrets.ts'
import { makePrivateFolder } from '../private-files.ts'
import { readDevVars, writeDevVars } from './dev-vars.ts'

/** Returns the secrets of this installation, and makes those that are missing. They are random, and its own. */
export function keepSecrets(file: string): Record<SecretName, string> {
  makePrivateFolder(dirname(file))
  const kept = readDevVars(file)
  const isUsable = (name: SecretName) => !!kept[name] && publishedSecrets({ [name]: kept[name] }).length === 0
  const made = Object.fromEntries(
    SECRETS.filter((name) => !isUsable(name)).map((name) => [name, randomBytes(32).toString('hex')]),
  )
  writeDevVars(file, made)
  return { ...kept, ...made } as Record<SecretName, string>
}
