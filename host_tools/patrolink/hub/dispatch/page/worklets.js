// Audio worklets, at 8000 samples per second: one player per group, and the microphone.
import { FRAME_SAMPLES, decode, encode, rms } from "./alaw.js";
import { PlayoutBuffer } from "./playout.js";

const REPORT_SAMPLES = 1600;  // interval of reports

class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.playout = new PlayoutBuffer();
    this.reportedAt = 0;
    this.level = 0;
    this.port.onmessage = ({ data }) => this.playout.push(data.ssrc, data.timestamp, decode(data.alaw), currentFrame);
  }

  process(inputs, [[out]]) {
    const playing = this.playout.pull(out, currentFrame);
    this.level = Math.max(this.level, playing ? rms(out) : 0);
    if (currentFrame - this.reportedAt >= REPORT_SAMPLES && (playing || this.wasPlaying)) {
      this.port.postMessage({ level: this.level, ...this.playout.counts });
      this.reportedAt = currentFrame;
      this.level = 0;
      this.wasPlaying = playing;
    }
    return true;
  }
}

class Microphone extends AudioWorkletProcessor {
  constructor() {
    super();
    this.frame = new Float32Array(FRAME_SAMPLES);
    this.n = 0;
  }

  process([[samples]]) {
    for (const sample of samples ?? []) {
      this.frame[this.n++] = sample;
      if (this.n === FRAME_SAMPLES) {
        const alaw = encode(this.frame);
        this.port.postMessage({ alaw, level: rms(this.frame) }, [alaw.buffer]);
        this.n = 0;
      }
    }
    return true;
  }
}

registerProcessor("player", Player);
registerProcessor("microphone", Microphone);
