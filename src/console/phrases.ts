import type { Language } from './texts.ts'

// The API says in English why something waits, ended or was left out; here is how the console says it in Chinese.
// `{}` stands for what differs, and comes back in the same order.

const PHRASES: [english: string, chinese: string][] = [
  // Why nothing is sent
  ['the task was cancelled', '任务已取消'],
  ['the task is finished', '任务已完成'],
  ["the task's end was reached", '任务已到截止时间'],
  ['the task starts at {}', '任务将于 {} 开始'],
  ['the task is paused', '任务已暂停'],
  ['paused by an operator', '由操作员暂停'],
  ['package {} ({}) was recalled', '升级包 {}（{}）已召回'],
  [
    'halted: {} of {} settled devices failed ({}, the limit is {})',
    '已自动停止：失败 {} 台，已结束 {} 台（{}，上限 {}）',
  ],
  ['outside its window until {}', '不在升级时段内，直到 {}'],
  ['the product is frozen', '产品已冻结'],
  ['its bridge is away or busy', '桥接离线或繁忙'],
  [
    'downloads through the Worker need the secret DOWNLOAD_SIGNING_KEY',
    '缺少密钥 DOWNLOAD_SIGNING_KEY，无法下载',
  ],
  // What a device waits for
  ['its automatic retry at {}', '将于 {} 自动重试'],
  ['the devices are being taken in', '正在纳入设备'],
  ['wave {} opens after wave {}', '第 {} 批在第 {} 批之后开放'],
  [
    'wave {} opens when {} of wave {} succeeded (none was reached yet)',
    '第 {} 批开放条件：成功率达 {}（第 {} 批，尚未触达任何设备）',
  ],
  [
    'wave {} opens when {} of wave {} succeeded (now {})',
    '第 {} 批开放条件：成功率达 {}（第 {} 批，目前 {}）',
  ],
  ['wave {} opens at {}, if wave {} stays as good', '第 {} 批将于 {} 开放，前提是第 {} 批保持良好'],
  ['wave {} opens when all of wave {} were sent their notice', '第 {} 批在第 {} 批全部发出通知后开放'],
  [
    'offline since {}: it is told when it subscribes, reports or asks',
    '自 {} 起离线：设备订阅、上报或查询时将收到通知',
  ],
  ['silent and not connected since its notice: gone since {}', '收到通知后无响应且未连接：自 {} 起失联'],
  ['the notice is on its way', '通知正在发送'],
  ['the device to begin', '等待设备开始升级'],
  ["the device's next message", '等待设备的下一条消息'],
  ['its notice is next to be sent', '即将发送通知'],
  ['rate: about {} min', '限速：约 {} 分钟'],
  ['the device is disabled', '设备已停用'],
  ['its package was recalled', '升级包已召回'],
  ['the package is a diff from {}', '差分包的源版本为 {}'],
  ['the packages are diffs from {}', '各差分包的源版本为 {}'],
  ['busy with task {}', '正被任务 {} 占用'],
  // How a device ended, and why one is not retried
  ['already on the target version', '已是目标版本'],
  ['timed out', '超时'],
  ['another upgrade is active', '另一升级正在进行'],
  ['superseded by {}', '被 {} 取代'],
  ['replaced by {}', '被 {} 取代'],
  ['reported 100 %, runs {}', '已上报 100 %，实际运行 {}'],
  ['rolled back: reported 100 %, runs {}', '已回退：上报 100 %，实际运行 {}'],
  ['still reports {} after {} more notices', '仍上报 {}（已重推 {} 次）'],
  ['timed_out', '超时'],
  ['rolled_back', '已回退'],
  ['wrong_version', '版本不符'],
  ['cancelled by an operator', '由操作员取消'],
  ['unverified', '未经确认'],
  ['late', '迟到'],
  ['device deleted', '设备已删除'],
  ['moved to another product', '已移至其他产品'],
  ['upgrade failed', '升级失败'],
  ['upgrade failed: {}', '升级失败：{}'],
  ['download failed', '下载失败'],
  ['download failed: {}', '下载失败：{}'],
  ['verification failed', '校验失败'],
  ['verification failed: {}', '校验失败：{}'],
  ['write failed', '烧写失败'],
  ['write failed: {}', '烧写失败：{}'],
  ['its download link had expired', '下载链接已过期'],
  ['the device was deleted or moved', '设备已删除或移走'],
  ['a newer task holds the device', '设备被更新的任务占用'],
  ['a newer task brought the device to Success', '更新的任务已使设备升级成功'],
  // What happened to a device
  ['created', '已创建'],
  ['progress', '进度'],
  ['version', '版本上报'],
  ['late progress', '迟到的进度'],
  ['late version', '迟到的版本上报'],
  ['subscribed', '已订阅'],
  ['connected', '已连接'],
  ['asked', '查询升级'],
  ['notice offered', '通知待发送'],
  ['notice sent', '通知已发送'],
  ['notice taken', '通知已送达'],
  ['notice offline', '通知时设备离线'],
  ['notice returned', '通知被退回'],
  ['notice not taken', '通知未被接收'],
  ['notice not confirmed', '通知未确认'],
  ['notice handed out', '通知已领取'],
  ['gone after the notice', '通知后失联'],
  ['hold', '暂缓'],
  ['waits', '等待'],
  ['busy', '占用'],
  ['slot freed', '占用解除'],
  ['replaced', '被取代'],
  ['superseded', '被取代'],
  ['alreadyOnTarget', '已是目标版本'],
  ['cancel', '取消'],
  ['cancelled', '已取消'],
  ['cancellation taken', '取消通知已送达'],
  ['ended', '已结束'],
  ['retried', '重试'],
  ['retried by itself', '自动重试'],
  ['not retried', '未重试'],
  // Why a preview leaves devices out
  ['disabled', '已停用'],
  ['wrong source version', '源版本不符'],
  // Deliveries of webhooks
  ['pending', '待投递'],
  ['delivered', '已投递'],
  ['failed', '投递失败'],
]

const CHINESE = PHRASES.map(([english, chinese]) => ({
  pattern: new RegExp(`^${english.split('{}').map(RegExp.escape).join('(.+?)')}$`, 's'),
  chinese,
}))

/** None of the API's own is longer; what a device said may be, and is not looked through for what it resembles. */
const MAX_LENGTH = 300

/** What the API said, in the language; as it is where the phrase is not known, as with what a device said. */
export function phrase(said: string, language: Language): string {
  if (language === 'en' || said.length > MAX_LENGTH) return said
  for (const { pattern, chinese } of CHINESE) {
    const found = pattern.exec(said)
    if (found === null) continue
    const values = found.slice(1)
    return chinese.replaceAll('{}', () => values.shift() ?? '')
  }
  return said
}
