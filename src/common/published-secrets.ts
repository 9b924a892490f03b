import type { Env } from './env.ts'

/** The secrets in `wrangler.toml`, for local use. They are public: with one of them anybody can make links or sessions. */
const PUBLISHED = ['local-signing-key', 'local-session-secret', 'local-access-key', 'local-secret-key']

/** The Worker's secrets that have a public value for local use. */
export const SECRETS = [
  'DOWNLOAD_SIGNING_KEY',
  'SESSION_SECRET',
  'R2_ACCESS_KEY_ID',
  'R2_SECRET_ACCESS_KEY',
] as const
export type SecretName = (typeof SECRETS)[number]

/** The names of the secrets that still have a public value; none should, except on a developer's own machine. */
export const publishedSecrets = (env: Partial<Pick<Env, SecretName>>): SecretName[] =>
  SECRETS.filter((name) => PUBLISHED.includes(env[name] ?? ''))
