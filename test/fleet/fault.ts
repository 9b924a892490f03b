/** Why an upgrade ends without success, as the device reports it (PROTOCOL.md, 3). */
export class UpgradeFault extends Error {
  readonly step: -1 | -2 | -3 | -4

  constructor(step: -1 | -2 | -3 | -4, description: string) {
    super(description)
    this.step = step
  }
}

/** The network broke: what was under way can be taken up again. */
export class ConnectionLost extends Error {}
