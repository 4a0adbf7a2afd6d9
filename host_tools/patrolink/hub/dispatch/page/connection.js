// Connection to the hub: WebSocket with requests, messages, voice in both directions and live view. It reconnects.

const RECONNECT_MS = [500, 1000, 2000, 4000];
const SESSION_OVER = 4401;  // close code of the hub
const UNREACHABLE = "The hub cannot be reached";

/** Return the name of the logged-in dispatcher; null if nobody is logged in, undefined if the hub cannot be reached. */
export async function loggedInName() {
  try {
    return (await (await fetch("/session")).json()).name;
  } catch {
    return undefined;
  }
}

export class HubConnection {
  /**
   * handlers: onMessage(message), onVoice(group, ssrc, timestamp, alaw), onLiveFrame(view, jpeg) and
   * onState("up" | "down" | "refused").
   */
  constructor(handlers) {
    this.handlers = handlers;
    this.pending = new Map();  // request id: { resolve, reject }
    this.nextId = 1;
    this.failures = 0;
  }

  open() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/socket`);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => typeof data === "string" ? this.#onText(JSON.parse(data)) : this.#onBinary(data);
    socket.onclose = ({ code }) => this.#onClose(code);
    this.socket = socket;
  }

  #onText(message) {
    if (message.type === "hello") {
      this.up = true;
      this.failures = 0;
      this.handlers.onState("up");
    }
    if (message.type !== "reply" && message.type !== "refused") return this.handlers.onMessage(message);
    const request = this.pending.get(message.id);
    this.pending.delete(message.id);
    if (message.type === "reply") request?.resolve(message.result);
    else request?.reject(new Error(message.error));
  }

  #onBinary(data) {
    const view = new DataView(data), group = view.getUint32(0), body = new Uint8Array(data, 12);
    if (group) this.handlers.onVoice(group, view.getUint32(4), view.getUint32(8), body);
    else this.handlers.onLiveFrame(view.getUint32(4), body);
  }

  async #onClose(code) {
    this.up = false;
    for (const { reject } of this.pending.values()) reject(new Error(UNREACHABLE));
    this.pending.clear();
    // The page cannot distinguish a refused handshake from a stopped hub: ask for the session.
    if (code === SESSION_OVER || await loggedInName() === null) return this.handlers.onState("refused");
    this.handlers.onState("down");
    setTimeout(() => this.open(), RECONNECT_MS[Math.min(this.failures++, RECONNECT_MS.length - 1)]);
  }

  /** Send a request. Resolves to its result, rejects with the hub's reason. */
  request(name, args = {}) {
    if (!this.up) return Promise.reject(new Error(UNREACHABLE));
    const id = this.nextId++;
    this.socket.send(JSON.stringify({ do: name, id, ...args }));
    return new Promise((resolve, reject) => this.pending.set(id, { resolve, reject }));
  }

  /** Send voice. It is dropped while the hub cannot be reached. */
  sendVoice(group, alaw) {
    if (!this.up) return;
    const data = new Uint8Array(4 + alaw.length);
    new DataView(data.buffer).setUint32(0, group);
    data.set(alaw, 4);
    this.socket.send(data);
  }
}
