import { expect, it } from 'vitest'
import { phrase } from '../../../src/console/phrases.ts'
import { SKIP_REASONS } from '../../../src/tasks/api/preview.ts'
import { PAUSED_BY_OPERATOR } from '../../../src/tasks/rules/task.ts'
import { describeOpening } from '../../../src/tasks/rules/window.ts'

it.each([
  [
    'wave 3 opens when 95 % of wave 2 succeeded (now 80.5 %)',
    '第 3 批开放条件：成功率达 95 %（第 2 批，目前 80.5 %）',
  ],
  [
    'halted: 3 of 20 settled devices failed (15 %, the limit is 10 %)',
    '已自动停止：失败 3 台，已结束 20 台（15 %，上限 10 %）',
  ],
  ['write failed: sector 7: bad', '烧写失败：sector 7: bad'],
  ['still reports v1.0.0 after 3 more notices', '仍上报 v1.0.0（已重推 3 次）'],
])(
  'the phrase %j is translated to Chinese, with its figures and names in their places',
  (english, chinese) => {
    expect(phrase(english, 'zh')).toBe(chinese)
    expect(phrase(english, 'en')).toBe(english)
  },
)

it('every reason why a device is skipped or a task waits has a Chinese translation', () => {
  const window = { days: ['mon'], from: '01:00', to: '05:00', timeZone: 'Asia/Shanghai' } as const
  const reasons = [...SKIP_REASONS, PAUSED_BY_OPERATOR, describeOpening({ ...window, days: ['mon'] }, 0)]
  for (const reason of reasons) expect(phrase(reason, 'zh'), reason).not.toBe(reason)
})

it("a device's own words are not translated", () => {
  expect(phrase('60 flashing', 'zh')).toBe('60 flashing')
  expect(phrase('$& and {} and (', 'zh')).toBe('$& and {} and (')
})
