import { Buffer } from 'node:buffer'
import type { Env } from '../common/env.ts'
import { tooMany, unauthorized } from '../common/errors.ts'
import { verifyGuess } from '../http/rate-limit.ts'
import { identify, type Sender } from '../messages/identify.ts'
import { TOPIC_NAME } from '../protocol/device.ts'
import { verifyPassword } from '../protocol/passwords.ts'

const GUESS_AGAIN_AFTER_SECONDS = 6

const refused = () => unauthorized("The device's credentials are not valid.")

/**
 * The device that asks over HTTPS (src/protocol/README.md#identity): by an AccessToken as bearer, or by a username with
 * its password. A username is no bearer token, and a token is no username with an empty password. Throws a 401, or a 429
 * if this address has guessed too many wrong passwords of this username.
 */
export async function authenticateDevice(
  env: Env,
  authorization: string | undefined,
  address: string,
): Promise<Sender> {
  const { username, password } = readCredentials(authorization ?? '')
  if (!TOPIC_NAME.test(username)) throw refused()
  const { senders } = await identify(env.DB, null, { usernames: [username], notices: [] }, Date.now())
  const sender = senders.get(username)
  if (!sender) throw refused()
  const { passwordHash } = sender
  if (password === null && passwordHash === null) return sender
  if (password === null || passwordHash === null || password === '') throw refused()
  const isRight = await verifyGuess(address, username, () => verifyPassword(password, passwordHash))
  if (isRight === undefined) throw tooMany(GUESS_AGAIN_AFTER_SECONDS)
  if (!isRight) throw refused()
  return sender
}

/** `password` null: a bearer token. */
function readCredentials(authorization: string): { username: string; password: string | null } {
  const [, scheme = '', value = ''] = /^(Bearer|Basic) +(\S+) *$/i.exec(authorization) ?? []
  if (scheme.toLowerCase() === 'bearer') return { username: value, password: null }
  const decoded = Buffer.from(value, 'base64').toString('utf8')
  const colon = decoded.indexOf(':')
  if (colon < 0) throw refused()
  return { username: decoded.slice(0, colon), password: decoded.slice(colon + 1) }
}
