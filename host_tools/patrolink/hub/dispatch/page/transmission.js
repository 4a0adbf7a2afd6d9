// One transmission: what the microphone delivers from the request of the floor to its release.

const PRE_ROLL_FRAMES = 50;  // voice before the grant: 1 s
const TAIL_MS = 200;  // the last word is not cut off

export class Transmission {
  /** audio: has `capture(onFrame)`; send(alaw): sends a frame. */
  constructor(audio, send) {
    Object.assign(this, { send, preRoll: [], granted: false });
    this.stopCapture = audio.capture(alaw => this.#onFrame(alaw));
  }

  #onFrame(alaw) {
    if (this.granted) return this.send(alaw);
    this.preRoll.push(alaw);
    if (this.preRoll.length > PRE_ROLL_FRAMES) this.preRoll.shift();
  }

  /** The floor was granted: send the pre-roll, then every frame. */
  grant() {
    this.granted = true;
    for (const alaw of this.preRoll) this.send(alaw);
    this.preRoll = [];
  }

  /** Resolves when the last word was sent. The transmission can continue after that. */
  async tail() {
    if (this.granted) await new Promise(resolve => setTimeout(resolve, TAIL_MS));
  }

  /** Send nothing more. */
  stop() {
    this.stopCapture();
    this.granted = false;
  }
}
