// Playout buffer of one group: plays a talk burst from packets that are late, duplicate, reordered or lost.
// It has no side effects: the audio worklet and the tests use the same code.
import { FRAME_SAMPLES, RATE_HZ, rms } from "./alaw.js";

const MS = RATE_HZ / 1000;
const BUFFER_SAMPLES = 32768;  // 4 s
const DELAY = { initial: 80 * MS, min: 40 * MS, max: 300 * MS };
const OBSERVED_PACKETS = 100;  // window of the delay estimate: 2 s
const ENOUGH_PACKETS = 25;  // for a first estimate
const FADE = 60 * MS;  // concealment fades out in this time
const MAX_EXCESS = 60 * MS;  // above the target delay; more is reduced in pauses
const PAUSE_LEVEL = 0.15;  // a pause is quieter than this fraction of the voice
const PITCH_LAG = [40, 120];  // 66 to 200 Hz
const PITCH_WINDOW = 80;

/** `push` packets as they arrive, `pull` what is played. `now` counts the listener's samples. */
export class PlayoutBuffer {
  constructor() {
    this.buffer = new Float32Array(BUFFER_SAMPLES);
    this.filled = new Uint8Array(BUFFER_SAMPLES);
    this.history = new Float32Array(PITCH_LAG[1] + PITCH_WINDOW);  // last samples played, for concealment
    this.target = DELAY.initial;
    this.ssrc = null;
    this.counts = { played: 0, concealed: 0, skipped: 0, late: 0 };  // samples; late: packets
  }

  /** Add a packet of a burst. `timestamp` is its RTP timestamp. */
  push(ssrc, timestamp, samples, now) {
    if (ssrc !== this.ssrc) this.#begin(ssrc, timestamp, now);
    const start = timestamp - this.firstTimestamp | 0;  // timestamps wrap at 2**32
    if (start > this.position + BUFFER_SAMPLES - FRAME_SAMPLES * 4 || start < this.position - BUFFER_SAMPLES) return;
    this.#observeDelay(now - this.startTime - start);
    this.level = Math.max(rms(samples), this.level * 0.98);
    if (this.isDry && start > this.position) this.position = start;
    if (start + samples.length <= this.position) this.counts.late++;
    for (let i = Math.max(0, this.position - start); i < samples.length; i++) {
      const slot = start + i & BUFFER_SAMPLES - 1;
      this.buffer[slot] = samples[i];
      this.filled[slot] = 1;
    }
    this.end = Math.max(this.end, start + samples.length);
  }

  /** Fill `out` with the next samples. Returns true while there is voice. */
  pull(out, now) {
    out.fill(0);
    if (this.ssrc === null || now - this.startTime < this.target || this.isDry) return false;
    this.#skipPauses();
    for (let i = 0; i < out.length; i++) out[i] = this.#nextSample();
    return true;
  }

  /** True if everything was played and the concealment has faded out. */
  get isDry() {
    return this.missing >= FADE && this.position >= this.end;
  }

  #begin(ssrc, timestamp, now) {
    // The delay shrinks between bursts only.
    if (this.ssrc !== null && this.delays.length >= ENOUGH_PACKETS) this.target = this.#estimateDelay();
    this.ssrc = ssrc;
    this.filled.fill(0);
    this.history.fill(0);
    this.startTime = now;
    this.firstTimestamp = timestamp;
    this.position = -FADE;  // the first packet to arrive is not always the first of the burst
    this.end = 0;
    this.missing = FADE;
    this.level = 0;
    this.delays = [];
  }

  /** Estimate the delay variation. The pre-roll arrives at once and is not representative. */
  #observeDelay(delay) {
    if (delay <= Math.min(...this.delays) - FRAME_SAMPLES) this.delays = [];
    this.delays.push(delay);
    if (this.delays.length > OBSERVED_PACKETS) this.delays.shift();
    if (this.delays.length >= ENOUGH_PACKETS) this.target = Math.max(this.target, this.#estimateDelay());
  }

  #estimateDelay() {
    const sorted = Float64Array.from(this.delays).sort();
    return Math.min(DELAY.max, Math.max(DELAY.min, sorted[Math.floor(sorted.length * 0.95)] - sorted[0]));
  }

  #nextSample() {
    if (!this.filled[this.position & BUFFER_SAMPLES - 1]) this.#skipGap();
    const slot = this.position & BUFFER_SAMPLES - 1;
    let value = this.buffer[slot], gain = 1;
    if (this.filled[slot]) {
      this.filled[slot] = 0;
      this.position++;
      this.missing = 0;
      this.counts.played++;
    } else {  // conceal: repeat the last pitch period and fade out
      if (this.missing === 0) this.lag = this.#pitchLag();
      gain = this.missing < FADE ? 1 - this.missing / FADE : 0;
      value = gain ? this.history[this.history.length - this.lag] : 0;
      this.missing++;
      this.counts.concealed += gain > 0;
    }
    this.history.copyWithin(0, 1);
    this.history[this.history.length - 1] = value;
    return value * gain;
  }

  /** Continue after a gap once it was concealed for its whole length: late packets are waited for, lost ones are not. */
  #skipGap() {
    const limit = Math.min(this.end, this.position + this.missing + 1);
    for (let position = this.position + 1; position < limit; position++) {
      if (this.filled[position & BUFFER_SAMPLES - 1]) {
        this.position = position;
        return;
      }
    }
  }

  #pitchLag() {
    const h = this.history;
    let bestLag = PITCH_LAG[0], bestMatch = -Infinity;
    for (let lag = PITCH_LAG[0]; lag <= PITCH_LAG[1]; lag++) {
      let product = 0, energy = 1e-9;
      for (let i = h.length - PITCH_WINDOW; i < h.length; i++) {
        product += h[i] * h[i - lag];
        energy += h[i - lag] ** 2;
      }
      const match = product / Math.sqrt(energy);
      if (match > bestMatch) [bestLag, bestMatch] = [lag, match];
    }
    return bestLag;
  }

  /** Skip pauses until the delay is back at its target. */
  #skipPauses() {
    const frame = new Float32Array(FRAME_SAMPLES);
    while (this.end - this.position > this.target + MAX_EXCESS) {
      for (let i = 0; i < FRAME_SAMPLES; i++) {
        if (!this.filled[this.position + i & BUFFER_SAMPLES - 1]) return;
        frame[i] = this.buffer[this.position + i & BUFFER_SAMPLES - 1];
      }
      if (rms(frame) > PAUSE_LEVEL * this.level) return;
      for (let i = 0; i < FRAME_SAMPLES; i++) this.filled[this.position++ & BUFFER_SAMPLES - 1] = 0;
      this.counts.skipped += FRAME_SAMPLES;
    }
  }
}
