/**
 * The topics and JSON messages of devices (src/protocol/README.md#topics, src/protocol/README.md#messages). Pure, and
 * shared with the bridge. Lenient in what is read, exact in what is written.
 */

import { ExactNumber, readDeviceJson, trim } from './device-json.ts'
import type { PackageSignature } from './firmware-signature.ts'

/** The shape of tokens and usernames, and of device numbers that can be a topic level. */
export const TOPIC_NAME = /^[A-Za-z0-9_-]{1,64}$/

/** A device message larger than this is refused before it is read. */
export const MAX_PAYLOAD_BYTES = 64 * 1024
export const DEFAULT_MODULE = 'default'
const MAX_VERSION_LENGTH = 64
const MAX_MODULE_LENGTH = 64
const MAX_DESCRIPTION_LENGTH = 128
const MAX_MESSAGE_ID_LENGTH = 64

// ---- Topics ---------------------------------------------------------------------------------------------

/** `device`: the first family, with the AccessToken in its downlink topic; `devices`: the later, with the number. */
export type TopicFamily = 'device' | 'devices'
export type UplinkKind = 'inform' | 'progress' | 'request'

const UPLINK_TOPICS: ReadonlyMap<string, { kind: UplinkKind; family: TopicFamily }> = new Map([
  ['ota/device/inform', { kind: 'inform', family: 'device' }],
  ['ota/device/infrom', { kind: 'inform', family: 'device' }], // a misspelling in the field
  ['ota/devices/inform', { kind: 'inform', family: 'devices' }],
  ['ota/device/progress', { kind: 'progress', family: 'device' }],
  ['ota/devices/progress', { kind: 'progress', family: 'devices' }],
  ['ota/device/request', { kind: 'request', family: 'device' }],
])

/** The uplink topic's meaning; undefined for any other topic. */
export const uplinkTopic = (topic: string) => UPLINK_TOPICS.get(topic)

/** All topics that a device may publish on. */
export const UPLINK_TOPIC_NAMES: readonly string[] = [...UPLINK_TOPICS.keys()]

const DOWNLINK_PREFIX: Record<TopicFamily, string> = {
  device: 'ota/device/inform/',
  devices: 'ota/devices/inform/',
}

export interface DeviceAddress {
  accessToken: string
  number: string
  /** False if the number cannot be a topic, or another device of the bridge has it too. */
  numberIsTopic: boolean
  topicFamily: TopicFamily | null
}

/** A device's downlink topic (src/protocol/README.md#topics); of the later family only if its number can be a topic. */
export function downlinkTopic(device: DeviceAddress): string {
  return device.topicFamily === 'devices' && device.numberIsTopic
    ? DOWNLINK_PREFIX.devices + device.number
    : DOWNLINK_PREFIX.device + device.accessToken
}

/** The family and the name in a downlink topic or filter; undefined for any other topic, and for wildcards. */
export function parseDownlinkTopic(topic: string): { family: TopicFamily; name: string } | undefined {
  for (const family of ['device', 'devices'] as const) {
    const prefix = DOWNLINK_PREFIX[family]
    const name = topic.slice(prefix.length)
    if (topic.startsWith(prefix) && TOPIC_NAME.test(name)) return { family, name }
  }
  return undefined
}

// ---- Messages up ----------------------------------------------------------------------------------------

export interface VersionReport {
  version: string
  module: string
}

export interface Progress {
  /** 0–100 a percentage; −1 … −4 a failure (src/protocol/README.md#messages). */
  step: number
  description: string | null
  /** Null if the message names none: the device's one active upgrade is meant or, if it has several, `default`. */
  module: string | null
}

export interface UpgradeRequest {
  /** Repeated in the answer; empty if the device sent none. */
  id: string
  /** Null asks for whatever is due, `default` first. */
  module: string | null
}

/** Why a message cannot be read; `src/reasons` has a text for each. */
export type Unreadable =
  | 'message_too_large'
  | 'not_json'
  | 'not_json_object'
  | 'no_version'
  | 'version_is_fraction'
  | 'version_too_long'
  | 'no_step'
  | 'module_not_text'
  | 'module_too_long'

/** `isDamaged`: it was no JSON, and was read field by field. */
export type Read<T> = { ok: true; value: T; isDamaged?: true } | { ok: false; code: Unreadable }

const unreadable = (code: Unreadable) => ({ ok: false as const, code })

/** The payload as a JSON object, its numbers as `ExactNumber`; other JSON is no message. */
export function readJson(payload: Uint8Array): Read<Record<string, unknown>> {
  if (payload.byteLength > MAX_PAYLOAD_BYTES) return unreadable('message_too_large')
  const json = readDeviceJson(payload)
  if (!json) return unreadable('not_json')
  const { value, isDamaged } = json
  if (!isObject(value)) return unreadable('not_json_object')
  return { ok: true, value, ...(isDamaged && { isDamaged }) }
}

/**
 * `{"id","params":{"version","module"}}`; the same without `params` is read too. An integer is a version, a fraction is
 * none: 1.10 would become 1.1.
 */
export function readVersionReport(message: Record<string, unknown>): Read<VersionReport> {
  const params = paramsOf(message)
  const version = textOf(params.version) ?? ''
  if (version === '') return unreadable('no_version')
  if (typeof params.version !== 'string' && !INTEGER.test(version)) return unreadable('version_is_fraction')
  if (lengthOf(version) > MAX_VERSION_LENGTH) return unreadable('version_too_long')
  const module = readModule(params.module)
  return module.ok ? { ok: true, value: { version, module: module.value ?? DEFAULT_MODULE } } : module
}

/** `{"step","desc","module"}`, flat or wrapped in `params`. */
export function readProgress(message: Record<string, unknown>): Read<Progress> {
  const params = paramsOf(message)
  const step = readStep(params.step)
  if (step === undefined) return unreadable('no_step')
  const module = readModule(params.module)
  if (!module.ok) return module
  const said = textOf(params.desc)
  const description = said === undefined ? null : cut(withoutLinks(said).replace(CONTROLS, ' '))
  return { ok: true, value: { step, description, module: module.value } }
}

export function readRequest(message: Record<string, unknown>): Read<UpgradeRequest> {
  const module = readModule(paramsOf(message).module)
  return module.ok ? { ok: true, value: { id: readMessageId(message), module: module.value } } : module
}

/** The message's own id if an answer can repeat it, else empty: a bad id never makes a message invalid. */
export function readMessageId(message: Record<string, unknown>): string {
  const { id } = message
  const text = typeof id === 'string' ? id : textOf(id)
  return text !== undefined && lengthOf(text) <= MAX_MESSAGE_ID_LENGTH ? text : ''
}

const INTEGER = /^-?\d+$/
const DECIMAL = /^-?\d+(?:\.\d*)?$/

/** `"100"`, `100`, `99.9`, `"5 %"` → a whole step; undefined for anything but 0–100 and −1 … −4 in plain decimals. */
function readStep(value: unknown): number | undefined {
  const said = textOf(value) ?? ''
  const text = said.endsWith('%') ? said.slice(0, -1).trimEnd() : said
  if (!DECIMAL.test(text)) return undefined
  const step = Math.trunc(Number(text)) + 0 // +0: no negative zero
  return step >= -4 && step <= 100 ? step : undefined
}

/** Null if the message names no module. */
function readModule(value: unknown): Read<string | null> {
  if (value === undefined || value === null) return { ok: true, value: null }
  const module = textOf(value)
  if (module === undefined) return unreadable('module_not_text')
  if (lengthOf(module) > MAX_MODULE_LENGTH) return unreadable('module_too_long')
  return { ok: true, value: module === '' ? null : module }
}

const paramsOf = (message: Record<string, unknown>) => (isObject(message.params) ? message.params : message)

const CONTROLS = /\p{Cc}/gu

/** Strings without what is around them, numbers as they were written; undefined for anything else. */
function textOf(value: unknown): string | undefined {
  if (value instanceof ExactNumber) return value.text
  if (typeof value === 'number') return String(value)
  return typeof value === 'string' ? trim(value) : undefined
}

/** In code points, as the API counts. */
const lengthOf = (text: string) => Array.from(text).length

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof ExactNumber)

/** Whatever a description has beyond this is neither searched for links nor kept. */
const MAX_READ_DESCRIPTION_LENGTH = 2048
/** A presigned link or one through the Worker, also without its beginning or percent-encoded. */
const DOWNLOAD_LINK = /(?:[?&]|%3f|%26)x-amz-|(?:\/|%2f)d(?:\/|%2f)[a-z0-9_-]{32}/i

/** A device that failed to download may quote its link, which must not get into histories, reports and webhooks. */
const withoutLinks = (text: string) =>
  text
    .slice(0, MAX_READ_DESCRIPTION_LENGTH)
    .split(/(\s+)/)
    .map((word) => (DOWNLOAD_LINK.test(word) ? '(link)' : word))
    .join('')

/** By code points, so that no character is cut in half. */
const cut = (text: string) => Array.from(text).slice(0, MAX_DESCRIPTION_LENGTH).join('')

// ---- Messages down --------------------------------------------------------------------------------------

export type SignMethod = 'SHA256' | 'MD5'

/** What a notice says about its package. */
export interface NoticePackage {
  version: string
  /** Bytes. */
  size: number
  signMethod: SignMethod
  /** The file's lower-case hex digest. */
  sign: string
  module: string
  isDiff: boolean
  extData: Record<string, unknown> | null
  /** Null if it is not signed; absent in tasks of earlier releases. */
  signature?: PackageSignature | null
}

export interface Notice {
  id: string
  code: 200
  params: {
    version: string
    size: number
    url: string
    signMethod: SignMethod
    sign: string
    module?: string
    isDiff?: 1
    extData?: Record<string, unknown>
    /** Ed25519 in base64 (src/protocol/README.md#signed-firmware). */
    digestsign?: string
    signKeyId?: string
    signCounter?: number
  }
}

/** The upgrade notice (src/protocol/README.md#messages). A `defaultModuleParam` of null leaves `module` out. */
export function buildNotice(
  noticeId: number,
  pkg: NoticePackage,
  url: string,
  defaultModuleParam: string | null,
): Notice {
  const module = pkg.module === DEFAULT_MODULE ? defaultModuleParam : pkg.module
  const { version, size, signMethod, sign, extData, signature } = pkg
  return {
    id: formatNoticeId(noticeId),
    code: 200,
    params: {
      version,
      size,
      url,
      signMethod,
      sign,
      ...(module !== null && { module }),
      ...(pkg.isDiff && { isDiff: 1 as const }),
      ...(extData !== null && Object.keys(extData).length > 0 && { extData }),
      ...(signature && { digestsign: signature.value, signKeyId: signature.keyId }),
      ...(signature && signature.counter > 0 && { signCounter: signature.counter }),
    },
  }
}

/** Tells a device that its upgrade was cancelled (src/protocol/README.md#messages). Sent if the product says so. */
export const buildCancellation = (
  noticeId: number,
  version: string,
  module: string,
  defaultModuleParam: string | null,
) => ({
  id: formatNoticeId(noticeId),
  code: 410 as const,
  params: { version, module: (module === DEFAULT_MODULE ? defaultModuleParam : null) ?? module },
})

/** The answer when nothing is due: the request's id and no parameters. */
export const buildNothingDue = (id: string) => ({ id, code: 200 as const, params: {} })

/** Notice ids are strings of 10 digits. */
export const formatNoticeId = (id: number) => String(id).padStart(10, '0')
