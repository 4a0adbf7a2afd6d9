// The socket to the hub: requests with answers, what the hub tells, voice both ways, live views. It comes back by itself.

const WAIT_MS = [500, 1000, 2000, 4000];

/** Return who is logged in here; null: nobody; undefined: the hub cannot be reached. */
export async function session() {
  try {
    return (await (await fetch("/session")).json()).name;
  } catch {
    return undefined;
  }
}

export class Link {
  /** told(message), voice(group, ssrc, stamp, alaw), sight(view, jpeg), state("up" | "down" | "refused") */
  constructor(on) {
    this.on = on;
    this.asked = new Map();
    this.next = 1;
    this.failures = 0;
  }

  open() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/socket`);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => typeof data === "string" ? this.#text(JSON.parse(data)) : this.#binary(data);
    socket.onclose = ({ code }) => this.#closed(code);
    this.socket = socket;
  }

  #text(message) {
    if (message.type === "hello") {
      this.up = true;
      this.failures = 0;
      this.on.state("up");
    }
    if (message.type !== "reply" && message.type !== "refused") return this.on.told(message);
    const asked = this.asked.get(message.id);
    this.asked.delete(message.id);
    if (message.type === "reply") asked?.resolve(message.result);
    else asked?.reject(new Error(message.error));
  }

  #binary(data) {
    const view = new DataView(data), group = view.getUint32(0), body = new Uint8Array(data, 12);
    if (group) this.on.voice(group, view.getUint32(4), view.getUint32(8), body);
    else this.on.sight(view.getUint32(4), body);
  }

  async #closed(code) {
    this.up = false;
    for (const { reject } of this.asked.values()) reject(new Error("the hub cannot be reached"));
    this.asked.clear();
    // A refused handshake and a hub that is gone look the same to a page: ask which it is.
    if (code === 4401 || await session() === null) return this.on.state("refused");
    this.on.state("down");
    setTimeout(() => this.open(), WAIT_MS[Math.min(this.failures++, WAIT_MS.length - 1)]);
  }

  /** Ask for something; resolves to its result, rejects with the hub's reason. */
  ask(request, args = {}) {
    if (!this.up) return Promise.reject(new Error("the hub cannot be reached"));
    const id = this.next++;
    this.socket.send(JSON.stringify({ do: request, id, ...args }));
    return new Promise((resolve, reject) => this.asked.set(id, { resolve, reject }));
  }

  /** Send voice; dropped while the hub cannot be reached. */
  speak(group, alaw) {
    if (!this.up) return;
    const data = new Uint8Array(4 + alaw.length);
    new DataView(data.buffer).setUint32(0, group);
    data.set(alaw, 4);
    this.socket.send(data);
  }
}
