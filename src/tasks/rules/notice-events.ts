import {
  isEnded,
  mayGoOut,
  type Offer,
  owesRepush,
  present,
  released,
  type Upgrade,
  type UpgradeEvent,
  type UpgradeRules,
} from './upgrade.ts'

// What happens to a notice on its way to the device (src/protocol/README.md#states). Pure; part of the transition table.

export function offered(upgrade: Upgrade, event: Extract<UpgradeEvent, { type: 'offered' }>): Upgrade {
  if (isEnded(upgrade.status) || upgrade.owed === 'no') return upgrade
  const sentEarlier = upgrade.offer?.noticeId === event.offer.noticeId && upgrade.offer.sent
  return {
    ...released(upgrade),
    owed: 'no',
    offer: {
      ...event.offer,
      sent: sentEarlier,
      sentEarlier,
      repush: owesRepush(upgrade),
      asked: upgrade.owed === 'asked',
      turnedUp: false,
    },
    offline: false,
    waiting: false,
    ...knownBefore(upgrade, event),
  }
}

/** What was known of the device's version before its first notice of the attempt; later notices do not change it. */
const knownBefore = (upgrade: Upgrade, event: { unsure: boolean; neverReported: boolean }) =>
  upgrade.pushes === 0 && { unsure: event.unsure, neverReported: event.neverReported }

export function sent(upgrade: Upgrade, noticeId: number): Upgrade {
  const { offer } = upgrade
  if (isEnded(upgrade.status)) return sentAfterEnd(upgrade, noticeId)
  if (upgrade.mayGoOut?.noticeId === noticeId && offer?.noticeId !== noticeId) return wentOutOfBefore(upgrade)
  if (offer?.noticeId !== noticeId || offer.sent) return upgrade
  return {
    ...wentOut(upgrade, offer.linkExpiresAt, offer.repush),
    offer: { ...offer, sent: true },
    packageIndex: offer.packageIndex ?? upgrade.packageIndex,
  }
}

/** The bridge had it when the upgrade ended: what the device reported before says nothing any more, unless it was the target. */
const sentAfterEnd = (upgrade: Upgrade, noticeId: number): Upgrade =>
  upgrade.mayGoOut?.noticeId !== noticeId
    ? upgrade
    : { ...upgrade, wentOn: !upgrade.reportedTarget, mayGoOut: null }

/** A notice of an earlier attempt, or of before a hand-out: what the device runs is open until it reports. */
const wentOutOfBefore = (upgrade: Upgrade): Upgrade =>
  upgrade.mayGoOut?.until === 0 ? upgrade : { ...upgrade, mayGoOut: { ...upgrade.mayGoOut!, until: 0 } }

/** A notice reached, or may have reached, the device: from now on its progress counts. */
const wentOut = (upgrade: Upgrade, linkExpiresAt: number, repush: boolean): Upgrade => ({
  ...upgrade,
  pushes: upgrade.pushes + 1,
  repushes: upgrade.repushes + (repush ? 1 : 0),
  reportedSinceNotice: false,
  earlierLinkExpiresAt: upgrade.linkExpiresAt,
  linkExpiresAt: Math.max(upgrade.linkExpiresAt ?? 0, linkExpiresAt),
})

/** Nothing subscribed for the device: the notice that `sent` announced did not go out, and no re-push is counted. */
function didNotGoOut(upgrade: Upgrade, offer: Offer): Upgrade {
  if (!offer.sent || offer.sentEarlier) return upgrade
  return {
    ...upgrade,
    pushes: upgrade.pushes - 1,
    repushes: upgrade.repushes - (offer.repush ? 1 : 0),
    linkExpiresAt: upgrade.earlierLinkExpiresAt,
    offer: { ...offer, sent: false },
  }
}

const givenBack = (upgrade: Upgrade, offer: Offer): Upgrade =>
  offer.sent || offer.sentEarlier ? upgrade : { ...upgrade, offer: { ...offer, returned: true } }

export function answered(
  upgrade: Upgrade,
  result: 'taken' | 'offline' | 'returned',
  noticeId: number,
  rules: UpgradeRules,
): Upgrade {
  const { offer } = upgrade
  if (isEnded(upgrade.status)) {
    const isOut = result === 'taken' || upgrade.mayGoOut?.noticeId !== noticeId
    return isOut ? upgrade : { ...upgrade, mayGoOut: null, mayHaveNotice: upgrade.pushes > 0 }
  }
  if (offer?.noticeId !== noticeId) return upgrade
  if (result === 'returned') return owedAgain(givenBack(upgrade, offer))
  if (result === 'offline') {
    const untold = didNotGoOut(upgrade, offer)
    // Otherwise the device is told when it turns up.
    return offer.turnedUp ? owedAgain(untold) : { ...untold, offer: null, owed: 'no', offline: true }
  }
  const isThere = offer.online !== false || offer.turnedUp
  const told: Upgrade = {
    ...sent(upgrade, noticeId),
    status: upgrade.status === 'pending' ? 'pushed' : upgrade.status,
    offer: null,
    owed: 'no',
    offline: false,
    lastTakenAt: rules.now,
    viaBridge: true,
  }
  return isThere ? present(told, rules.now) : told
}

/** The offer stays, so that the notice goes out again under the same id. */
export function owedAgain(upgrade: Upgrade): Upgrade {
  const { offer } = upgrade
  if (!offer || upgrade.owed !== 'no') return upgrade
  if (offer.asked) return { ...upgrade, owed: 'asked', askedRepush: offer.repush }
  return { ...upgrade, owed: offer.repush ? 'repush' : 'due' }
}

export function handedOut(
  upgrade: Upgrade,
  event: Extract<UpgradeEvent, { type: 'handedOut' }>,
  rules: UpgradeRules,
): Upgrade {
  if (isEnded(upgrade.status)) return upgrade
  const { offer } = upgrade
  const wasCounted = offer?.sent === true && offer.repush
  const repush = !wasCounted && (owesRepush(upgrade) || offer?.repush === true)
  return {
    ...present(wentOut(released(upgrade), event.linkExpiresAt, repush), rules.now),
    status: upgrade.status === 'pending' ? 'pushed' : upgrade.status,
    owed: 'no',
    offer: null,
    mayGoOut: mayGoOut(upgrade),
    offline: false,
    lastTakenAt: rules.now,
    lastMessageAt: rules.now,
    waiting: false,
    ...knownBefore(upgrade, event),
    packageIndex: event.packageIndex,
  }
}
