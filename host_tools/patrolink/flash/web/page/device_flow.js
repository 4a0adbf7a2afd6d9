// What becomes of one device: waiting -> identifying -> planning -> ready -> confirming -> writing -> verifying -> releasing ->
// flashed. In `ready` the operator decides. Before anything is written, `confirming` reads the identity again. A device that holds the
// image already goes from planning to releasing, and ends as unchanged.
import { RefusedError, StoppedError } from "./errors.js";

const STEPS = ["waiting", "identifying", "planning", "ready", "confirming", "writing", "verifying", "releasing", "flashed"];
const STOPPABLE = ["identifying", "planning", "ready", "confirming", "writing"];
const ENDED = ["waiting", "flashed", "unchanged", "refused", "failed", "stopped"];

export class DeviceFlow {
  state = "waiting";
  device = null;
  plan = null;
  error = "";
  #changed;

  /** `changed` is called after each change of state. */
  constructor(changed) {
    this.#changed = changed;
  }

  get isStoppable() {
    return STOPPABLE.includes(this.state);
  }

  get isEnded() {
    return ENDED.includes(this.state);
  }

  /** The current step is complete. */
  advance() {
    const next = STEPS[STEPS.indexOf(this.state) + 1];
    this.#enter(next === "flashed" && this.plan.isUnchanged ? "unchanged" : next);
  }

  /** The device has reported its identity. Throws RefusedError if it is not the one that was planned for. */
  identified(device) {
    if (this.device && device.uniqueId !== this.device.uniqueId) {
      throw new RefusedError(`Another device answers: ${device.uniqueId || "one without an id"}, not ${this.device.uniqueId}; `
        + "nothing was written to it; check which cable is in which socket, then connect again");
    }
    this.device = device;
    this.advance();
  }

  planned(plan) {
    this.plan = plan;
    this.#enter(plan.isUnchanged ? "releasing" : "ready");
  }

  ended(error) {
    this.error = error.message;
    this.#enter(error instanceof RefusedError ? "refused" : error instanceof StoppedError ? "stopped" : "failed");
  }

  #enter(state) {
    this.state = state;
    this.#changed(this);
  }
}
