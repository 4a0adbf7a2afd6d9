// Loudspeaker, microphone and tones of the console.
import { RATE } from "./voice.js";

const PRE_ROLL = 50;  // frames: what is said before the grant, 1 s
const TAIL_MS = 200;  // the last word is not to be cut
const TONES = {  // [Hz, from ms, to ms]
  granted: [[880, 0, 70], [1175, 80, 160]],
  queued: [[660, 0, 90]],
  denied: [[330, 0, 180], [262, 200, 420]],
  emergency: [[988, 0, 180], [740, 200, 380], [988, 400, 580], [740, 600, 780]],
};

export class Sound {
  /** level(group, report): what a player tells; mic(level): how loud the microphone is; changed(): see `problem`. */
  constructor({ level, mic, changed }) {
    this.told = { level, mic, changed };
    this.players = new Map();
    this.problem = "";
    this.micOpen = false;
    this.onFrame = null;
  }

  /** Has to be called by what a person does: browsers want that. Opens the loudspeaker once. */
  start() {
    this.starting ??= this.#start();
    this.context?.resume();
    return this.starting;
  }

  async #start() {
    this.context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    if (!this.context.audioWorklet) {
      this.#fail("no sound: browsers give it only to pages over https or on this machine");
      return;
    }
    await this.context.audioWorklet.addModule("/page/worklets.js");
    this.context.onstatechange = () => this.told.changed();
    this.ready = true;
    this.told.changed();
  }

  /** Open the microphone once; false, and `problem` says why, when it cannot be. */
  async openMic() {
    await this.start();
    this.opening ??= this.#openMic();
    return this.opening;
  }

  async #openMic() {
    try {
      const stream = await navigator.mediaDevices.getUserMedia(
        { audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true } });
      const source = this.context.createMediaStreamSource(stream);
      const node = new AudioWorkletNode(this.context, "microphone", { numberOfOutputs: 0 });
      node.port.onmessage = ({ data }) => {
        this.told.mic(data.level);
        this.onFrame?.(data.alaw);
      };
      source.connect(node);
      stream.getAudioTracks()[0].onended = () => this.#lose("the microphone has been taken away");
      this.micOpen = true;
      this.#fail("");
      return true;
    } catch (e) {
      this.#lose(navigator.mediaDevices ? `no microphone: ${e.message}`
        : "no microphone: browsers give it only to pages over https or on this machine");
      return false;
    }
  }

  #lose(problem) {
    this.micOpen = false;
    this.opening = null;  // the next press tries again
    this.#fail(problem);
  }

  #fail(problem) {
    this.problem = problem;
    this.told.changed();
  }

  /** Play a packet of a group. */
  hear(group, ssrc, stamp, alaw) {
    if (!this.ready) return;
    let player = this.players.get(group);
    if (!player) {
      player = new AudioWorkletNode(this.context, "player", { numberOfInputs: 0, outputChannelCount: [1] });
      player.port.onmessage = ({ data }) => this.told.level(group, data);
      player.connect(this.context.destination);
      this.players.set(group, player);
    }
    player.port.postMessage({ ssrc, stamp, alaw });
  }

  /** A group is not heard any more. */
  drop(group) {
    this.players.get(group)?.disconnect();
    this.players.delete(group);
  }

  tone(name) {
    if (!this.ready) return;
    const now = this.context.currentTime;
    for (const [pitch, from, to] of TONES[name]) {
      const source = new OscillatorNode(this.context, { frequency: pitch });
      const gain = new GainNode(this.context, { gain: name === "emergency" ? 0.4 : 0.15 });
      source.connect(gain).connect(this.context.destination);
      source.start(now + from / 1000);
      source.stop(now + to / 1000);
    }
  }
}

/** One press of the key: keeps what is said until the floor is ours, then sends it; the end is sent, too. */
export class Press {
  constructor(sound, send) {
    Object.assign(this, { sound, send, waiting: [], granted: false });
    sound.onFrame = alaw => this.#frame(alaw);
  }

  #frame(alaw) {
    if (this.granted) return this.send(alaw);
    this.waiting.push(alaw);
    if (this.waiting.length > PRE_ROLL) this.waiting.shift();
  }

  grant() {
    this.granted = true;
    for (const alaw of this.waiting) this.send(alaw);
    this.waiting = [];
  }

  /** The key is up: resolves when the last word is out. It may go on after that. */
  async release() {
    if (this.granted) await new Promise(done => setTimeout(done, TAIL_MS));
  }

  stop() {
    this.sound.onFrame = null;
    this.granted = false;
  }
}
