// Errors whose text says what happened, why, and what to do next.

export class FlasherError extends Error {}

/** The image must not be written to this device; another attempt does not help. */
export class RefusedError extends FlasherError {}

/** The device or its line failed; another attempt may help. */
export class DeviceError extends FlasherError {}

/** The device did not answer in time. */
export class DeadlineError extends DeviceError {}

/** The operator stopped the transfer. */
export class StoppedError extends FlasherError {}
