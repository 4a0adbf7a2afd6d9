// What must not be missed: emergency calls, SOS, and that somebody is being listened in to.
import { $, el } from "./dom.js";

const AGAIN_MS = 8000;  // an alarm that nobody has seen sounds again
const LOUD = { sos: "SOS", man_down: "MAN DOWN", tamper: "TAMPERED WITH" };

export class Alerts {
  /** alarm(): sound it; show(device): on the map; select(group); answer(device, event, state) */
  constructor(on) {
    this.on = on;
    this.shown = new Map();
    setInterval(() => this.#unseen && on.alarm(), AGAIN_MS);
  }

  get #unseen() {
    return [...this.shown.values()].some(alert => alert.loud && !alert.seen);
  }

  /** A group's floor: an emergency call stands here until it is over. */
  floor(group) {
    const id = `call ${group.group}`;
    if (group.state === "idle" || !group.emergency) return this.drop(id);
    this.#put(id, "▲ EMERGENCY CALL", `${group.talker} in ${group.name}`, true,
      ["To the group", () => this.on.select(group.group)], ["Show on the map", () => this.on.show(group.talker)]);
  }

  /** An event of a device stands here until a dispatcher has resolved it, or the wearer has withdrawn it. */
  event(row) {
    const { device, event_id, taken_by } = row, id = `event ${device} ${event_id}`, word = LOUD[row.kind];
    if (row.phase === "cancelled" || row.phase === "cleared") return this.drop(id);
    if (!word) return;
    const at = row.time ? ` at ${new Date(row.time).toLocaleTimeString("en-GB")}` : "", does = taken_by ? "resolved" : "accepted";
    this.#put(id, `▲ ${word}`, `${device}${at} ${row.text ?? ""}${taken_by ? `: ${taken_by} has it` : ""}`, !taken_by,
      ["Show on the map", () => this.on.show(device)],
      [taken_by ? "Resolved" : "I have it", () => this.on.answer(device, event_id, does)]);
  }

  /** A device's microphone has been asked to open to us, or is open. */
  listening(device, reason, open, stop) {
    const how = open ? "its microphone is open, its indicator lit" : "asked, not heard yet";
    this.#put(`in ${device}`, "◉ LISTENING IN", `to ${device}: ${how}. Reason: ${reason}`, false, ["Stop", stop]);
  }

  /** A device signs its clips with a key that it did not have before. */
  signer(device) {
    const id = `signer ${device}`;
    this.#put(id, "▲ ANOTHER KEY", `${device} signs its clips with a key that it did not have before`, true, ["I have seen it", () => this.drop(id)]);
  }

  listenedIn(device) {
    this.drop(`in ${device}`);
  }

  /** To the first one that sounds: it has been seen. */
  first() {
    const alert = [...this.shown.values()].find(one => one.loud);
    if (!alert) return;
    alert.seen = true;
    alert.does();
  }

  clear() {
    for (const id of [...this.shown.keys()]) if (id.startsWith("event ")) this.drop(id);
  }

  drop(id) {
    this.shown.get(id)?.row.remove();
    this.shown.delete(id);
  }

  #put(id, title, text, loud, ...doings) {
    const before = this.shown.get(id);
    if (before?.text === text) return;
    const alert = { text, loud, seen: before?.seen ?? false, does: doings[0][1] };
    alert.row = el("div", { className: loud ? "" : "inform" }, el("b", { textContent: title }), el("span", { textContent: text }),
      ...doings.map(([textContent, does]) => el("button", { textContent, onclick: () => { alert.seen = true; does(); } })));
    this.drop(id);
    this.shown.set(id, alert);
    if (loud) $("alerts").prepend(alert.row);
    else $("alerts").append(alert.row);
    if (loud && !alert.seen) this.on.alarm();
  }
}
