// Banners: emergency calls, SOS and other alarms, ambient listening, new signing keys, warnings, faults of the hub.
import { $, button, el, formatTime } from "./dom.js";

const REPEAT_MS = 8000;  // interval of the tone until an alarm is acknowledged
const ALARM_LABELS = { sos: "SOS", man_down: "MAN DOWN", tamper: "TAMPER ALARM" };

export class Alerts {
  /** handlers: onAlarm() plays the tone; showOnMap(device), selectGroup(group), answerEvent(device, event, state). */
  constructor(handlers) {
    this.handlers = handlers;
    this.alerts = new Map();
    setInterval(() => this.#hasUnacknowledged && handlers.onAlarm(), REPEAT_MS);
  }

  get #hasUnacknowledged() {
    return [...this.alerts.values()].some(alert => alert.alarm && !alert.acknowledged);
  }

  /** Show an emergency call until its floor is released. */
  updateFloor(group) {
    const id = `call ${group.group}`;
    if (group.state === "idle" || !group.emergency) return this.#remove(id);
    this.#show(id, "▲ EMERGENCY CALL", `${group.talker} in ${group.name}`, true,
      ["Select group", () => this.handlers.selectGroup(group.group)],
      ["Show on map", () => this.handlers.showOnMap(group.talker)]);
  }

  /** Show an alarm of a device until a dispatcher resolves it or the wearer cancels it. */
  updateEvent(row) {
    const { device, event_id, taken_by } = row, id = `event ${device} ${event_id}`, label = ALARM_LABELS[row.kind];
    if (row.phase === "cancelled" || row.phase === "cleared") return this.#remove(id);
    if (!label) return;
    const time = row.time ? ` at ${formatTime(new Date(row.time))}` : "", state = taken_by ? "resolved" : "accepted";
    const name = row.barred ? `${device} (barred device)` : device;
    const text = `${name}${time} ${row.text ?? ""}${taken_by ? `: accepted by ${taken_by}` : ""}`;
    this.#show(id, `▲ ${label}`, text, !taken_by,
      ["Show on map", () => this.handlers.showOnMap(device)],
      [taken_by ? "Resolve" : "Accept", () => this.handlers.answerEvent(device, event_id, state)]);
  }

  /** Show that a device's microphone is requested, or open. */
  showListenIn(device, reason, open, stop) {
    const state = open ? "microphone open, indicator on" : "requested, no voice yet";
    const text = `${device}: ${state}. Reason: ${reason}`;
    this.#show(`listen-in ${device}`, "◉ LISTENING IN", text, false, ["Stop", stop]);
  }

  hideListenIn(device) {
    this.#remove(`listen-in ${device}`);
  }

  /** Show that a device signs its clips with another key than before. */
  showNewSigner(device) {
    const id = `signer ${device}`;
    const text = `${device} signs its clips with another key than before`;
    this.#show(id, "▲ NEW SIGNING KEY", text, true, ["Dismiss", () => this.#remove(id)]);
  }

  /** Show a fault of the hub until it is dismissed. */
  showNotice({ id, text }) {
    const key = `notice ${id}`;
    this.#show(key, "▲ HUB", text, false, ["Dismiss", () => this.#remove(key)]);
  }

  /** Show that a device floods the hub or has a double. */
  showWarning({ device, warning, text }) {
    const id = `warning ${warning} ${device}`;
    this.#show(id, "▲ WARNING", `${device} ${text}`, true, ["Dismiss", () => this.#remove(id)]);
  }

  /** Acknowledge the first alarm and perform its first action. */
  openFirst() {
    const alert = [...this.alerts.values()].find(({ alarm }) => alarm);
    if (!alert) return;
    alert.acknowledged = true;
    alert.action();
  }

  /** Remove the alarms of devices; the hub sends those that are open. */
  clearEvents() {
    for (const id of [...this.alerts.keys()]) if (id.startsWith("event ")) this.#remove(id);
  }

  #remove(id) {
    this.alerts.get(id)?.row.remove();
    this.alerts.delete(id);
  }

  #show(id, title, text, alarm, ...actions) {
    const previous = this.alerts.get(id);
    if (previous?.text === text) return;
    const alert = { text, alarm, acknowledged: previous?.acknowledged ?? false, action: actions[0][1] };
    alert.row = el("div", { className: alarm ? "" : "notice" },
      el("b", { textContent: title }), el("span", { textContent: text }),
      ...actions.map(([label, action]) => button(label, () => { alert.acknowledged = true; action(); })));
    this.#remove(id);
    this.alerts.set(id, alert);
    if (alarm) $("alerts").prepend(alert.row);
    else $("alerts").append(alert.row);
    if (alarm && !alert.acknowledged) this.handlers.onAlarm();
  }
}
