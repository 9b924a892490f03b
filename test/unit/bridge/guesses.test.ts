import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { type Attempt, createGuesses } from '../../../bridge/brokers/guesses.ts'

const attempt = (more: Partial<Attempt> = {}): Attempt => ({
  address: '192.0.2.1',
  username: 'guessed',
  isRemembered: false,
  mayWait: false,
  isGone: () => false,
  ...more,
})
const deny = async () => 'deny' as const
const allow = async () => 'allow' as const

describe('guesses', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  const guess = async (
    guesses: ReturnType<typeof createGuesses>,
    times: number,
    more: Partial<Attempt> = {},
  ) => {
    let verified = 0
    for (let n = 0; n < times; n++) {
      if ((await guesses.verify(attempt(more), deny)) === 'deny') verified++
    }
    return verified
  }

  it('after a few wrong passwords of an address for a username the next are refused unverified, until time has passed', async () => {
    const guesses = createGuesses(Date.now)
    expect(await guess(guesses, 100)).toBe(5)
    expect(guesses.counts.guesses).toBe(95)
    expect(await guesses.verify(attempt({ username: 'neighbour' }), allow)).toBe('allow')
    expect(await guesses.verify(attempt({ address: '192.0.2.2' }), allow)).toBe('allow')
    vi.advanceTimersByTime(60_000)
    expect(await guess(guesses, 100)).toBe(5)
  })

  it('right credentials never count, however many devices of an address connect', async () => {
    const guesses = createGuesses(Date.now)
    for (let n = 0; n < 5_000; n++) {
      expect(await guesses.verify(attempt({ username: `device-${n % 2_000}` }), allow)).toBe('allow')
    }
  })

  it('the right password is let in after a wait, and simultaneous guesses do not all pass', async () => {
    const guesses = createGuesses(Date.now)
    let verified = 0
    const tries = Array.from({ length: 20 }, () =>
      guesses.verify(attempt({ mayWait: true }), async () => {
        verified++
        return 'deny' as const
      }),
    )
    await vi.advanceTimersByTimeAsync(0)
    expect(verified).toBe(5)
    await vi.advanceTimersByTimeAsync(60_000)
    await Promise.all(tries)
    expect(verified).toBe(6)
    await guess(guesses, 20)
    const right = guesses.verify(attempt({ mayWait: true }), allow)
    await vi.advanceTimersByTimeAsync(10_000)
    expect(await right).toBe('allow')
  })

  it('an address that guesses for many usernames is slowed down as a whole, except for what was right before', async () => {
    const guesses = createGuesses(Date.now)
    let verified = 0
    for (let n = 0; n < 200; n++) verified += await guess(guesses, 1, { username: `device-${n}` })
    expect(verified).toBe(50)
    expect(await guesses.verify(attempt({ username: 'known', isRemembered: true }), allow)).toBe('allow')
    const waiting = guesses.verify(attempt({ username: 'new', mayWait: true }), allow)
    await vi.advanceTimersByTimeAsync(1_000)
    expect(await waiting).toBe('allow')
  })

  it('without an address nobody is slowed down, since anybody could slow down any device', async () => {
    expect(await guess(createGuesses(Date.now), 100, { address: '' })).toBe(100)
  })
})
