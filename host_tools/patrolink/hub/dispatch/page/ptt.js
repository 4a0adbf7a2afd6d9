// Push-to-talk: one transmission at a time, from the request of the floor to its release.
import { $, setText } from "./dom.js";
import { Transmission } from "./transmission.js";

const ENDING_MS = 5000;
const DENIED_MS = 4000;  // how long a denial is shown
const LABELS = {
  idle: "Hold to talk", requesting: "Requesting", granted: "Talk now", ending: "Talk now", denied: "Not granted",
};

export class PushToTalk {
  /** connection: HubConnection; audio: AudioEngine; groups: GroupTable. */
  constructor(connection, audio, groups) {
    Object.assign(this, { connection, audio, groups, transmission: null, group: null, source: null });
    this.showIdle();
    setInterval(() => this.#tick(), 200);
  }

  /** True from the request of the floor to its release. */
  get active() {
    return this.transmission !== null;
  }

  /** Kind of the next call: normal, broadcast or emergency. */
  get callType() {
    return document.querySelector("[name=call]:checked").value;
  }

  /** Request the floor of a group. `source` names the key or pointer that is held. */
  async press(group, source) {
    if (group === null || group === undefined) return;
    if (this.active) {
      // Pressed again while the last word is sent: the transmission continues.
      if (this.source === null && group === this.group) this.source = source;
      return;
    }
    this.source = source;
    this.group = group;
    const send = alaw => this.connection.sendVoice(group, alaw);
    const transmission = this.transmission = new Transmission(this.audio, send);
    this.#show("requesting");
    this.groups.setOwnState(group, "queued");
    const microphone = await this.audio.openMicrophone();
    if (this.transmission !== transmission) return;
    if (!microphone) return this.#end("denied", this.audio.problem);
    const type = this.callType;
    this.connection.request("press", { group, emergency: type === "emergency", broadcast: type === "broadcast" })
      .then(() => this.groups.setListening(group, true))
      .catch(e => this.transmission === transmission && this.#end("denied", e.message));
  }

  /** Release the floor if `source` holds it; without a source, always. */
  async release(source = this.source) {
    const { transmission, group } = this;
    if (!transmission || this.source === null || this.source !== source) return;
    this.source = null;
    await transmission.tail();
    if (this.transmission !== transmission || this.source !== null) return;
    this.connection.request("release", { group }).catch(() => {});
    this.#end("idle", "");
  }

  /** Handle the hub's floor messages. */
  onMessage({ type, group, duration_ms, position, text }) {
    if (group !== this.group || !this.active) return;
    if (type === "granted") {
      this.endsAt = Date.now() + duration_ms;
      this.transmission.grant();
      this.audio.playTone("granted");
      this.groups.setOwnState(group, "granted");
      this.#show("granted");
    } else if (type === "queued") {
      this.audio.playTone("queued");
      this.#show("queued", `Queued: position ${position}`);
    } else if (type === "denied" || type === "revoked") {
      this.audio.playTone("denied");
      this.#end("denied", `${type === "denied" ? "Denied" : "Revoked"}: ${text || "no reason given"}`);
    }
  }

  /** The connection to the hub is lost. */
  onDisconnect() {
    if (this.active) this.#end("denied", "The connection to the hub is lost");
  }

  /** Show the selected group and the call type, unless a transmission is active. */
  showIdle() {
    if (!this.active) this.#show("idle");
  }

  #end(state, message) {
    this.transmission.stop();
    this.transmission = null;
    this.source = null;
    this.groups.setOwnState(null, "");
    this.#show(state);
    setText($("message"), message);
    if (state !== "denied") document.querySelector("[name=call][value=normal]").checked = true;
    else setTimeout(() => $("talk-button").dataset.state === "denied" && this.#show("idle"), DENIED_MS);
  }

  #show(state, label = LABELS[state]) {
    $("talk-button").dataset.state = state;
    $("talk-button").dataset.call = this.callType;
    setText($("talk-state"), label);
    if (state === "requesting") setText($("message"), "");
    const group = this.groups.get(this.active ? this.group : this.groups.selected);
    const type = this.callType === "normal" ? "" : `, ${this.callType} call`;
    setText($("talk-group"), group ? group.name + type : "Select a group");
  }

  #tick() {
    if (!this.transmission?.granted) return;
    const leftMs = this.endsAt - Date.now();
    this.#show(leftMs < ENDING_MS ? "ending" : "granted", `Talk now, ${Math.max(0, Math.ceil(leftMs / 1000))} s left`);
  }
}
