// The key: one press at a time, from asking for the floor to the end of the last word.
import { $, say } from "./dom.js";
import { Press } from "./sound.js";

const SOON_MS = 5000;
const WORDS = { "": "Hold to talk", asking: "Asking", on: "On air", soon: "On air", no: "Not granted" };

export class Key {
  constructor(link, sound, groups) {
    Object.assign(this, { link, sound, groups, press: null, group: null, held: false });
    this.show("");
    setInterval(() => this.#tick(), 200);
  }

  get call() {
    return document.querySelector("[name=call]:checked").value;
  }

  /** The key goes down for a group. */
  async down(group) {
    if (group === null || group === undefined) return;
    if (this.press) {
      this.held = group === this.group;  // in the tail of the last word the key came down again: it goes on
      return;
    }
    this.held = true;
    this.group = group;
    const press = this.press = new Press(this.sound, alaw => this.link.speak(group, alaw));
    this.show("asking");
    this.groups.press(group, "wait");
    const ready = await this.sound.openMic();
    if (this.press !== press) return;
    if (!ready) return this.#end("no", this.sound.problem);
    const call = this.call;
    this.link.ask("press", { group, emergency: call === "emergency", broadcast: call === "broadcast" })
      .then(() => this.groups.listens(group, true))
      .catch(e => this.press === press && this.#end("no", e.message));
  }

  /** The key comes up. */
  async up() {
    const { press, group } = this;
    if (!press || !this.held) return;
    this.held = false;
    await press.release();
    if (this.press !== press || this.held) return;
    this.link.ask("release", { group }).catch(() => {});
    this.#end("", "");
  }

  /** What the hub says of our wish. */
  told({ type, group, duration_ms, position, text }) {
    if (group !== this.group || !this.press) return;
    if (type === "granted") {
      this.ends = Date.now() + duration_ms;
      this.duration = duration_ms;
      this.press.grant();
      this.sound.tone("granted");
      this.groups.press(group, "mine");
      this.show("on");
    } else if (type === "queued") {
      this.sound.tone("queued");
      this.show("queued", `Queued: ${position}`);
    } else if (type === "denied" || type === "revoked") {
      this.sound.tone("denied");
      this.#end("no", `${type === "denied" ? "Denied" : "Stopped"}: ${text || "the hub gives no reason"}`);
    }
  }

  /** The hub is gone: nothing of ours is on air any more. */
  lost() {
    if (this.press) this.#end("no", "The connection to the hub is lost");
  }

  #end(state, told) {
    this.press.stop();
    this.press = null;
    this.held = false;
    this.groups.press(null, "");
    this.show(state);
    say($("told"), told);
    if (state !== "no") document.querySelector("[name=call][value=normal]").checked = true;
    else setTimeout(() => $("key").dataset.state === "no" && this.show(""), 4000);
  }

  show(state, words = WORDS[state]) {
    $("key").dataset.state = state;
    $("key").dataset.call = this.call;
    say($("key-state"), words);
    if (state === "asking") say($("told"), "");
    const group = this.groups.get(this.press ? this.group : this.groups.selected);
    const call = this.call === "normal" ? "" : `, ${this.call} call`;
    say($("key-group"), group ? group.name + call : "Select a group");
  }

  #tick() {
    if (!this.press?.granted) return;
    const left = this.ends - Date.now();
    this.show(left < SOON_MS ? "soon" : "on", `On air, ${Math.max(0, Math.ceil(left / 1000))} s left`);
  }
}
