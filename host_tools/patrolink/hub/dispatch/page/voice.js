// G.711 A-law, and what plays a talk burst out of packets that come late, twice, in any order or not at all.
// Pure: the audio worklet and the tests use the same code. Samples are floats at 8000 a second.

export const RATE = 8000;
export const FRAME = 160;  // 20 ms

const MS = RATE / 1000;
const RING = 32768;  // 4 s
const TARGET = [80 * MS, 40 * MS, 300 * MS];  // delay at the start, least, most
const OBSERVED = 100, ENOUGH = 25;  // packets that delays are measured over: 2 s of 20 ms
const FADE = 60 * MS;  // concealment is silent after that
const AHEAD = 60 * MS;  // more than this over the target is caught up with in pauses
const PAUSE = 0.15;  // a pause is softer than this part of the voice
const LAG = [40, 120];  // pitch of a voice, 66 to 200 Hz
const MATCH = 80;

const DECODED = Float32Array.from({ length: 256 }, (_, code) => {
  const it = code ^ 0x55, exponent = it >> 4 & 7, mantissa = (it & 15) << 4;
  const level = exponent ? mantissa + 0x108 << exponent - 1 : mantissa + 8;
  return (it & 0x80 ? level : -level) / 32768;
});

/** Return A-law as samples. */
export function decode(alaw) {
  return Float32Array.from(alaw, code => DECODED[code]);
}

/** Return samples as A-law; too loud ones are clipped. */
export function encode(samples) {
  return Uint8Array.from(samples, sample => {
    let level = Math.min(32767, Math.max(-32768, Math.round(sample * 32768))) >> 3;
    const sign = level >= 0 ? 0xd5 : 0x55;
    if (level < 0) level = -level - 1;
    if (level < 32) return level >> 1 ^ sign;
    const exponent = 31 - Math.clz32(level) - 4;
    return (exponent << 4 | level >> exponent & 15) ^ sign;
  });
}

/** Return the RMS of samples. */
export function power(samples) {
  return Math.sqrt(samples.reduce((sum, one) => sum + one * one, 0) / samples.length);
}

/** One group's voice: `push` packets as they come, `pull` what is to be heard. Times are the listener's, in samples. */
export class Playout {
  constructor() {
    this.ring = new Float32Array(RING);
    this.there = new Uint8Array(RING);
    this.history = new Float32Array(LAG[1] + MATCH);  // what was heard last, for concealment
    this.target = TARGET[0];
    this.ssrc = null;
    this.counts = { played: 0, concealed: 0, skipped: 0, late: 0 };  // samples; packets
  }

  /** Take a packet of a burst: `stamp` is its RTP timestamp. */
  push(ssrc, stamp, samples, now) {
    if (ssrc !== this.ssrc) this.#begin(ssrc, stamp, now);
    const at = stamp - this.first | 0;  // stamps wrap at 2**32
    if (at > this.at + RING - FRAME * 4 || at < this.at - RING) return;
    this.#observe(now - this.began - at);
    this.loud = Math.max(power(samples), this.loud * 0.98);
    if (this.dry && at > this.at) this.at = at;
    if (at + samples.length <= this.at) this.counts.late++;
    for (let i = Math.max(0, this.at - at); i < samples.length; i++) {
      const slot = at + i & RING - 1;
      this.ring[slot] = samples[i];
      this.there[slot] = 1;
    }
    this.end = Math.max(this.end, at + samples.length);
  }

  /** Fill `out` with what is to be heard; true while there is voice. */
  pull(out, now) {
    out.fill(0);
    if (this.ssrc === null || now - this.began < this.target || this.dry) return false;
    this.#catchUp();
    for (let i = 0; i < out.length; i++) out[i] = this.#sample();
    return true;
  }

  /** All has been heard, and concealed for as long as that makes sense. */
  get dry() {
    return this.missing >= FADE && this.at >= this.end;
  }

  #begin(ssrc, stamp, now) {
    if (this.ssrc !== null && this.delays.length >= ENOUGH) this.target = this.#wanted();  // only now may it shrink
    this.ssrc = ssrc;
    this.there.fill(0);
    this.history.fill(0);
    this.began = now;
    this.first = stamp;
    this.at = -FADE;  // the first packet to come need not be the first that was said
    this.end = 0;
    this.missing = FADE;
    this.loud = 0;
    this.delays = [];
  }

  /** Learn how late packets are. What was said before the grant comes at once: it tells nothing. */
  #observe(delay) {
    if (delay <= Math.min(...this.delays) - FRAME) this.delays = [];
    this.delays.push(delay);
    if (this.delays.length > OBSERVED) this.delays.shift();
    if (this.delays.length >= ENOUGH) this.target = Math.max(this.target, this.#wanted());
  }

  #wanted() {
    const sorted = Float64Array.from(this.delays).sort();
    return Math.min(TARGET[2], Math.max(TARGET[1], sorted[Math.floor(sorted.length * 0.95)] - sorted[0]));
  }

  #sample() {
    if (!this.there[this.at & RING - 1]) this.#jump();
    const slot = this.at & RING - 1;
    let value = this.ring[slot], gain = 1;
    if (this.there[slot]) {
      this.there[slot] = 0;
      this.at++;
      this.missing = 0;
      this.counts.played++;
    } else {  // say the last period of the voice again, ever softer
      if (this.missing === 0) this.lag = this.#pitch();
      gain = this.missing < FADE ? 1 - this.missing / FADE : 0;
      value = gain ? this.history[this.history.length - this.lag] : 0;
      this.missing++;
      this.counts.concealed += gain > 0;
    }
    this.history.copyWithin(0, 1);
    this.history[this.history.length - 1] = value;
    return value * gain;
  }

  /** Go on behind a gap that has been bridged for as long as it is: a late packet is waited for, a lost one is not. */
  #jump() {
    const most = Math.min(this.end, this.at + this.missing + 1);
    for (let at = this.at + 1; at < most; at++) {
      if (this.there[at & RING - 1]) {
        this.at = at;
        return;
      }
    }
  }

  #pitch() {
    const h = this.history;
    let best = LAG[0], most = -Infinity;
    for (let lag = LAG[0]; lag <= LAG[1]; lag++) {
      let product = 0, energy = 1e-9;
      for (let i = h.length - MATCH; i < h.length; i++) {
        product += h[i] * h[i - lag];
        energy += h[i - lag] ** 2;
      }
      const match = product / Math.sqrt(energy);
      if (match > most) [best, most] = [lag, match];
    }
    return best;
  }

  /** Leave out pauses until the voice is where it is said. */
  #catchUp() {
    const frame = new Float32Array(FRAME);
    while (this.end - this.at > this.target + AHEAD) {
      for (let i = 0; i < FRAME; i++) {
        if (!this.there[this.at + i & RING - 1]) return;
        frame[i] = this.ring[this.at + i & RING - 1];
      }
      if (power(frame) > PAUSE * this.loud) return;
      for (let i = 0; i < FRAME; i++) this.there[this.at++ & RING - 1] = 0;
      this.counts.skipped += FRAME;
    }
  }
}
