// Loudspeaker, microphone and tones of the console.
import { RATE_HZ } from "./alaw.js";

const TONES = {  // [Hz, start ms, end ms]
  granted: [[880, 0, 70], [1175, 80, 160]],
  queued: [[660, 0, 90]],
  denied: [[330, 0, 180], [262, 200, 420]],
  emergency: [[988, 0, 180], [740, 200, 380], [988, 400, 580], [740, 600, 780]],
};
const EMERGENCY_GAIN = 0.4, GAIN = 0.15;

export class AudioEngine {
  /** handlers: onGroupLevel(group, report of a player), onMicrophoneLevel(level), onChange() (see `problem`). */
  constructor(handlers) {
    this.handlers = handlers;
    this.players = new Map();  // group: AudioWorkletNode
    this.problem = "";
    this.microphoneOpen = false;
    this.frameHandler = null;
  }

  /** True if voice can be played. */
  get running() {
    return this.context?.state === "running";
  }

  /** Open the loudspeaker once. Browsers require that this is called from a user's action. */
  start() {
    this.starting ??= this.#start();
    this.context?.resume();
    return this.starting;
  }

  async #start() {
    this.context = new AudioContext({ sampleRate: RATE_HZ, latencyHint: "interactive" });
    if (!this.context.audioWorklet) {
      this.#setProblem("No sound: browsers require https or a page on this machine");
      return;
    }
    await this.context.audioWorklet.addModule("/page/worklets.js");
    this.context.onstatechange = () => this.handlers.onChange();
    this.ready = true;
    this.handlers.onChange();
  }

  /** Open the microphone once. Returns false if it cannot be opened; `problem` says why. */
  async openMicrophone() {
    await this.start();
    this.opening ??= this.#openMicrophone();
    return this.opening;
  }

  async #openMicrophone() {
    try {
      const stream = await navigator.mediaDevices.getUserMedia(
        { audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true } });
      const source = this.context.createMediaStreamSource(stream);
      const node = new AudioWorkletNode(this.context, "microphone", { numberOfOutputs: 0 });
      node.port.onmessage = ({ data }) => {
        this.handlers.onMicrophoneLevel(data.level);
        this.frameHandler?.(data.alaw);
      };
      source.connect(node);
      stream.getAudioTracks()[0].onended = () => this.#onMicrophoneLost("The microphone was disconnected");
      this.microphoneOpen = true;
      this.#setProblem("");
      return true;
    } catch (e) {
      this.#onMicrophoneLost(navigator.mediaDevices ? `No microphone: ${e.message}`
        : "No microphone: browsers require https or a page on this machine");
      return false;
    }
  }

  #onMicrophoneLost(problem) {
    this.microphoneOpen = false;
    this.opening = null;  // the next press tries again
    this.#setProblem(problem);
  }

  #setProblem(problem) {
    this.problem = problem;
    this.handlers.onChange();
  }

  /** Pass the microphone's A-law frames to a handler until the returned function is called. */
  capture(onFrame) {
    this.frameHandler = onFrame;
    return () => {
      if (this.frameHandler === onFrame) this.frameHandler = null;
    };
  }

  /** Play a voice packet of a group. */
  play(group, ssrc, timestamp, alaw) {
    if (!this.ready) return;
    let player = this.players.get(group);
    if (!player) {
      player = new AudioWorkletNode(this.context, "player", { numberOfInputs: 0, outputChannelCount: [1] });
      player.port.onmessage = ({ data }) => this.handlers.onGroupLevel(group, data);
      player.connect(this.context.destination);
      this.players.set(group, player);
    }
    player.port.postMessage({ ssrc, timestamp, alaw });
  }

  /** Stop playing a group. */
  stopPlaying(group) {
    this.players.get(group)?.disconnect();
    this.players.delete(group);
  }

  /** Play a tone: granted, queued, denied or emergency. */
  playTone(name) {
    if (!this.ready) return;
    const now = this.context.currentTime;
    for (const [frequency, startMs, endMs] of TONES[name]) {
      const source = new OscillatorNode(this.context, { frequency });
      const gain = new GainNode(this.context, { gain: name === "emergency" ? EMERGENCY_GAIN : GAIN });
      source.connect(gain).connect(this.context.destination);
      source.start(now + startMs / 1000);
      source.stop(now + endMs / 1000);
    }
  }
}
