import { EVENTS, REASONS } from '../reasons/english.ts'
import {
  type EventCode,
  fill,
  type Params,
  type Part,
  type Reason,
  type ReasonCode,
} from '../reasons/reason.ts'
import type { Language } from './texts.ts'

// Reasons and events in the console's languages. English is the API's own; the compiler and a test hold each other
// table to the same codes and parameters.

const CHINESE_REASONS: Record<ReasonCode, string> = {
  text: '{text}',
  // Why a task sends nothing
  task_cancelled: '任务已取消',
  no_devices_found: '任务开始时没有匹配的设备',
  task_finished: '任务已完成',
  end_reached: '任务已到截止时间',
  starts_at: '任务将于 {at} 开始',
  task_paused: '任务已暂停',
  paused_by_operator: '由操作员暂停',
  package_recalled: '升级包 {packageId}（{version}）已召回',
  halted:
    '已自动停止：失败 {failed} 台，已结束 {settled} 台（{percent} %，上限 {limitPercent} %）[；{unseen} 台报告 100 % 后再未出现；若设备休眠超过 {minutes} 分钟，请调高设备超时]',
  outside_window: '不在升级时段内，直到 [{date}（{weekday}）]{time} {timeZone}',
  day_sun: '周日',
  day_mon: '周一',
  day_tue: '周二',
  day_wed: '周三',
  day_thu: '周四',
  day_fri: '周五',
  day_sat: '周六',
  product_frozen: '产品已冻结',
  signature_missing: '升级包 {packageId}（{version}）没有签名，而其产品要求签名',
  signature_key_retired: '升级包 {packageId}（{version}）由 {keyId} 签名，该密钥已不再是产品的密钥',
  signature_wrong: '升级包 {packageId}（{version}）的签名与其内容不符',
  no_bridge_credit: '桥接离线或繁忙',
  broker_unreachable: '桥接无法连接 MQTT 服务器',
  no_signing_key: '缺少密钥 DOWNLOAD_SIGNING_KEY，无法经由 Worker 下载',
  no_bucket_token: '预签名下载需要 R2_S3_ENDPOINT、R2_ACCESS_KEY_ID 和 R2_SECRET_ACCESS_KEY',
  published_secret: '密钥 {name} 仍是公开的示例值，任何人都能伪造下载链接',
  file_missing: '存储中缺少升级包 {packageId}（{version}）的文件',
  file_changed: '存储中升级包 {packageId}（{version}）的文件不是上传的文件',
  bucket_unavailable: '暂时无法访问文件存储',
  no_public_url: '经由 Worker 下载需要不超过 {maxLength} 个字符的 PUBLIC_URL',
  // What a device waits for
  retries_at: '将于 {at} 自动重试',
  enrolling: '正在纳入设备',
  wave_after_wave: '第 {wave} 批在第 {before} 批之后开放',
  wave_needs_first_success: '第 {wave} 批开放条件：第 {open} 批成功率达 {percent} %（尚未触达任何设备）',
  wave_needs_success: '第 {wave} 批开放条件：第 {open} 批成功率达 {percent} %（目前 {now} %）',
  wave_needs_reached:
    '第 {wave} 批在第 {open} 批触达 {size} 台后开放（目前 {reached}）[；缺少的设备将于 {at} 由后续批次补足]',
  wave_is_full: '第 {wave} 批已通知足够的设备（{size} 台），本设备等待下一批',
  wave_finds_nobody:
    '第 {wave} 批在第 {open} 批触达 {size} 台后开放（目前 {reached}）；{at} 时其余设备均未连接',
  wave_reaches_nobody: '第 {wave} 批等待中：网关离线，第 {open} 批没有可触达的设备',
  wave_needs_seen:
    '第 {wave} 批等待中：{unseen} 台报告 100 % 后再未出现；若设备休眠超过 {minutes} 分钟，请调高设备超时',
  wave_opens_at: '第 {wave} 批将于 {at} 开放，前提是第 {open} 批保持良好',
  wave_needs_notices: '第 {wave} 批在第 {open} 批全部发出通知后开放',
  offline_since: '自 {at} 起离线：设备订阅、上报或查询时将收到通知',
  gone_since: '收到通知后无响应且未连接：自 {at} 起失联',
  notice_on_its_way: '通知正在发送',
  device_to_begin: '等待设备开始升级',
  next_message: '等待设备的下一条消息',
  notice_is_next: '即将发送通知',
  rate_limited: '限速：约 {minutes} 分钟',
  device_disabled: '设备已停用',
  device_package_recalled: '升级包已召回',
  only_diff_from: '差分包的源版本为 {version}',
  only_diffs_from: '各差分包的源版本为 {versions}',
  version_uncertain: '设备上报版本之前，其版本不确定',
  busy_with_task: '正被任务 {taskId} 占用',
  slot_changed_hands: '准备通知时设备或升级占用发生了变化',
  // How a device's upgrade ended
  told_just_now: '刚刚通知过；若仍无回应将再次通知',
  already_on_target: '已是目标版本',
  unverified: '未经确认',
  late: '迟到',
  upgrade_failed: '升级失败[：{said}]',
  download_failed: '下载失败[：{said}]',
  verification_failed: '校验失败[：{said}]',
  write_failed: '烧写失败[：{said}]',
  timed_out: '超时',
  wrong_version: '仍上报 {version}（已重推 {notices} 次）',
  rolled_back: '已上报 100 %，实际运行 {version}',
  rolled_back_failure: '已回退：上报 100 %，实际运行 {version}',
  failed_after_100: '已上报 100 %，随后{failure}',
  slot_busy: '另一升级正在进行',
  cancelled_by_operator: '由操作员取消',
  device_deleted: '设备已删除',
  device_moved: '已移至其他产品',
  replaced_by: '被任务 {taskId} 替换',
  superseded_by: '被任务 {taskId} 取代',
  superseded: '被更新的任务取代',
  link_expired: '下载链接已过期',
  other_failures: '（其他）',
  // Why a device is not retried
  device_deleted_or_moved: '设备已删除或移走',
  newer_task_holds_device: '设备被更新的任务占用',
  newer_task_succeeded: '更新的任务已使设备升级成功',
  // Why a message is rejected
  message_too_large: '超过 64 KiB',
  not_json: '不是 JSON',
  not_json_object: '不是 JSON 对象',
  no_version: '没有可用的版本',
  version_is_fraction: '版本是小数；版本必须是文本，否则 1.10 会变成 1.1',
  version_too_long: '版本超过 64 个字符',
  no_step: '没有可用的进度',
  module_not_text: '模块不是文本',
  module_too_long: '模块超过 64 个字符',
  too_many_modules: '模块过多：每台设备最多 32 个',
  unknown_module: '进度所指的模块不存在',
  no_upgrade: '收到进度，但该设备从未参与此模块的升级',
  not_uplink_topic: '不是上行主题',
  sender_disabled: '设备已停用',
  unknown_device: '未知设备',
  unknown_task: '未知任务',
  invalid_item: '无效的条目[：{path}：{fault}]',
  over_share_messages: '消息超过其份额：被延后[，一分钟内 {times} 次]',
  over_share_requests: '请求超过其份额：被延后[，一分钟内 {times} 次]',
  over_share_connections: '连接超过其份额：被关闭或拒绝[，一分钟内 {times} 次]',
  over_share_spool: '在桥接处等待的消息超过其份额：被延后或丢弃[，一分钟内 {times} 次]',
  // What whoever makes a task is warned of
  older_task_cut_short: '任务“{name}”（{taskId}）[，计划于 {startAt} 开始，]不会再送达本任务所升级的设备',
  leaves_newer_version: '其中 {devices} 台设备运行更新的升级包 {version}，将被换下',
  module_never_reported: '该产品没有任何设备上报过模块 {module}',
  no_devices_yet: '目前没有匹配的设备；任务开始时会再次查找',
  all_at_once: '{devices} 台设备将同时收到通知；若先推送一小批，可在少数设备上验证升级包',

  // Why a preview leaves devices out
  disabled: '已停用',
  wrong_source_version: '源版本不符',
  busy: '占用',
}

const CHINESE_EVENTS: Record<EventCode, readonly [kind: string, detail: string | null]> = {
  notice_offered: ['通知待发送', '{noticeId}'],
  notice_sent: ['通知已发送', '{noticeId}'],
  notice_taken: ['通知已送达', '{noticeId}'],
  notice_offline: ['通知时设备离线', '{noticeId}'],
  notice_returned: ['通知被退回', '{noticeId}'],
  notice_handed_out: ['通知已领取', '{noticeId}'],
  notice_not_taken: ['通知未被接收', null],
  notice_not_confirmed: ['通知未确认', null],
  cancellation_taken: ['取消通知已送达', '{noticeId}'],
  progress: ['进度', '{step}[ {said}][（模块 {named}）]'],
  version: ['版本上报', '{version}[（模块 {named}）]'],
  damaged_progress: ['进度（报文损坏）', '{step}[ {said}][（模块 {named}）]'],
  damaged_version: ['版本上报（报文损坏）', '{version}[（模块 {named}）]'],
  late_progress: ['迟到的进度', '{step}[ {said}]'],
  late_version: ['迟到的版本上报', '{version}'],
  subscribed: ['已订阅', null],
  connected: ['已连接', null],
  asked: ['查询升级', '{via}[ × {count}]'],
  download_began: ['开始下载', '[源版本 {sourceVersion}]'],
  download_resumed: ['继续下载', '[源版本 {sourceVersion}]'],
  download_missing: ['下载时找不到文件', '[源版本 {sourceVersion}]'],
  download_completed: ['下载完成', '[源版本 {sourceVersion}]'],
  gone: ['通知后失联', null],
  gone_after_100: ['报告 100 % 后失联', null],
  presence_unknown: ['无响应；代理不报告其是否在线', null],
  still_connected: ['报告 100 % 后仍在线', null],
  seen: ['再次出现', null],
  device_left: ['已删除或移走', null],
  rejoined: ['已移回', null],
  timeout_changed: ['设备超时已更改', null],
  timed_out: ['超时', null],
  reminded: ['已提醒', null],
  waits: ['等待', '{reason}'],
  waits_no_more: ['不再等待', null],
  enabled: ['已启用', null],
  slot_freed: ['占用解除', '[{taskId}]'],
  slot_busy: ['占用', '{taskId}'],
  replaced: ['被替换', '{taskId}'],
  superseded: ['被取代', '[{taskId}]'],
  already_on_target: ['已是目标版本', null],
  cancelled: ['已取消', '{reason}'],
  ended: ['已结束', null],
  retried: ['重试', null],
  retried_automatically: ['自动重试', null],
  not_retried: ['未重试', '{reason}'],
}

const REASON_TEXTS: Record<Language, Record<ReasonCode, string>> = { en: REASONS, zh: CHINESE_REASONS }
const EVENT_TEXTS: Record<Language, Record<EventCode, readonly [kind: string, detail: string | null]>> = {
  en: EVENTS,
  zh: CHINESE_EVENTS,
}

/** The text with its parameters still in it, for a page that fills it itself. */
export const reasonTemplate = (code: ReasonCode, language: Language) => REASON_TEXTS[language][code]

/** The parts of a reason's text; parameters that are reasons stay parts. A code of a later release stays a code. */
export const reasonParts = ({ code, params }: Reason, language: Language): Part[] =>
  fill(REASON_TEXTS[language][code] ?? code, params)

/** A reason as plain text, its times as they are stored. */
export const reasonText = (reason: Reason, language: Language): string =>
  reasonParts(reason, language)
    .map((part) => {
      if (typeof part === 'string') return part
      return typeof part.value === 'object' ? reasonText(part.value, language) : String(part.value)
    })
    .join('')

/** An event's kind, and the parts of what there is to say of it. */
export function eventParts(
  code: EventCode,
  params: Params,
  language: Language,
): { kind: string; detail: Part[] } {
  const [kind, detail] = EVENT_TEXTS[language][code] ?? [code, null]
  if (typeof params.text === 'string') return { kind, detail: [params.text] }
  return { kind, detail: detail === null ? [] : fill(detail, params) }
}
