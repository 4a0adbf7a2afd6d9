// What runs in the audio thread, at 8000 samples a second: a player a group, and the microphone.
import { FRAME, Playout, decode, encode, power } from "./voice.js";

const REPORT = 1600;  // samples between two reports

class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.playout = new Playout();
    this.reported = 0;
    this.level = 0;
    this.port.onmessage = ({ data }) => this.playout.push(data.ssrc, data.stamp, decode(data.alaw), currentFrame);
  }

  process(inputs, [[out]]) {
    const heard = this.playout.pull(out, currentFrame);
    this.level = Math.max(this.level, heard ? power(out) : 0);
    if (currentFrame - this.reported >= REPORT && (heard || this.sounding)) {
      this.port.postMessage({ level: this.level, ...this.playout.counts });
      this.reported = currentFrame;
      this.level = 0;
      this.sounding = heard;
    }
    return true;
  }
}

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.frame = new Float32Array(FRAME);
    this.n = 0;
  }

  process([[samples]]) {
    for (const sample of samples ?? []) {
      this.frame[this.n++] = sample;
      if (this.n === FRAME) {
        const alaw = encode(this.frame);
        this.port.postMessage({ alaw, level: power(this.frame) }, [alaw.buffer]);
        this.n = 0;
      }
    }
    return true;
  }
}

registerProcessor("player", Player);
registerProcessor("microphone", Microphone);
