/** Why an upgrade fails, as the device reports it (src/protocol/README.md#messages). */
export class UpgradeFault extends Error {
  readonly step: -1 | -2 | -3 | -4

  constructor(step: -1 | -2 | -3 | -4, description: string) {
    super(description)
    this.step = step
  }
}

/** The network broke; the download can be resumed. */
export class ConnectionLost extends Error {}
