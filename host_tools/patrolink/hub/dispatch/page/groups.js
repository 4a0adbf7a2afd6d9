// Table of talk groups: floor, talker, time, loss and queue. Groups in emergency are listed first.
import { $, button, el, formatMinutes, setText } from "./dom.js";

const ENDING_MS = 5000;  // devices warn their wearers at the same time
const HIGH_LOSS = 0.03;
const AUDIBLE_LEVEL = 0.003;
const LABELS = {
  idle: "○ idle", taken: "● taken", granted: "▶ you talk", queued: "◔ queued", emergency: "▲ emergency",
  revoked: "● revoked",
};
const KIND_LABELS = { dynamic: "dynamic", private: "private" };

const inEmergency = group => group.state !== "idle" && group.emergency;

export class GroupTable {
  /** handlers: onListen(group, on), onEnd(group) and onSelect(group). */
  constructor(handlers) {
    this.handlers = handlers;
    this.rows = new Map();
    this.body = $("groups").querySelector("tbody");
    this.selected = null;
    this.own = { group: null, state: "" };  // our request: "queued" or "granted"
    this.listening = new Set();
    setInterval(() => this.#tick(), 250);
  }

  get(number) {
    return this.rows.get(number)?.group;
  }

  get all() {
    return [...this.rows.values()].map(row => row.group);
  }

  /** Add or update groups from the hub. */
  update(...groups) {
    let reorder = false;
    for (const group of groups) {
      group.clockOffsetMs = Date.now() - group.now_ms;  // from the hub's clock to ours
      const row = this.rows.get(group.group) ?? this.#create(group);
      reorder ||= !row.group || inEmergency(row.group) !== inEmergency(group);
      row.group = group;
      this.#render(row);
    }
    if (reorder) this.#sort();
  }

  /** Update the packet counts of a group's burst. */
  updateCounts({ group, packets, lost }) {
    const row = this.rows.get(group);
    if (!row) return;
    Object.assign(row.group, { packets, lost });
    this.#render(row);
  }

  remove(number) {
    this.listening.delete(number);
    this.rows.get(number)?.tr.remove();
    this.rows.delete(number);
    const first = this.body.querySelector("tr:not([hidden])")?.dataset.group;
    if (this.selected === number) this.select(Number(first) || null);
  }

  clear() {
    for (const number of [...this.rows.keys()]) this.remove(number);
    this.listening.clear();
  }

  select(number) {
    this.selected = number;
    for (const [rowNumber, { tr }] of this.rows) tr.setAttribute("aria-selected", rowNumber === number);
    this.rows.get(number)?.tr.scrollIntoView({ block: "nearest" });
    this.handlers.onSelect(number);
  }

  /** Select the row that is `offset` rows below the selected one, or the first if none is selected. */
  selectRelative(offset) {
    const order = [...this.body.children].filter(tr => !tr.hidden).map(tr => Number(tr.dataset.group));
    const index = order.indexOf(this.selected) + offset;
    if (order.length) this.select(order[Math.min(order.length - 1, Math.max(0, index))]);
  }

  /** Set the state of our request of the floor: "queued", "granted" or "". */
  setOwnState(group, state) {
    const previous = this.own.group;
    this.own = { group, state };
    for (const number of [previous, group]) if (this.rows.has(number)) this.#render(this.rows.get(number));
  }

  setListening(number, on) {
    if (on) this.listening.add(number);
    else this.listening.delete(number);
    const row = this.rows.get(number);
    if (row) {
      row.listen.setAttribute("aria-pressed", on);
      row.tr.dataset.audible = "";
      this.#render(row);
    }
  }

  /** Show a player's report: highlights what is audible now. */
  showLevel(number, report) {
    const row = this.rows.get(number);
    if (row) Object.assign(row.tr.dataset, { audible: report.level > AUDIBLE_LEVEL ? "yes" : "", ...report });
  }

  #create({ group: number, name, kind }) {
    const cell = (className, ...children) => el("td", { className }, ...children);
    const title = "Hold to talk in this group";
    const talk = el("button", { className: "talk", textContent: "Talk", title, data: { group: number } });
    const toggleListening = () => this.handlers.onListen(number, !this.listening.has(number));
    const row = {
      listen: button("Listen", toggleListening, { className: "listen" }),
      bar: el("progress", { max: 1, value: 0 }), seconds: el("span"),
      state: cell("state"), elapsed: cell("elapsed num"), lost: cell("lost num"),
      talkerName: el("span"), queue: el("small", { className: "under queue" }),
    };
    row.talker = cell("talker", row.talkerName, row.queue);
    row.left = cell("left", row.bar, row.seconds);
    row.tr = el("tr", { data: { group: number }, onclick: () => this.select(number) },
      cell("name", name, el("small", { textContent: KIND_LABELS[kind] ?? "" })),
      row.state, row.talker, row.elapsed, row.left, row.lost, cell("actions", row.listen, talk));
    row.tr.cells[0].title = `${name}, group ${number}`;
    talk.setAttribute("aria-label", `Talk in ${name}`);
    if (kind === "dynamic") row.tr.lastChild.prepend(button("End", () => this.handlers.onEnd(number)));
    row.listen.setAttribute("aria-pressed", this.listening.has(number));
    row.tr.setAttribute("aria-selected", number === this.selected);
    this.rows.set(number, row);
    return row;
  }

  #render(row) {
    const { group, tr } = row, own = this.own.group === group.group ? this.own.state : "";
    const taken = group.state !== "idle", shown = own || (!taken ? "idle" : group.emergency ? "emergency" : "taken");
    // Every device has a private group: it is listed while it is in use.
    tr.hidden = group.kind === "private" && !taken && !this.listening.has(group.group);
    tr.dataset.state = shown;
    tr.dataset.floor = group.state;
    const label = LABELS[group.state === "pending revoke" && !own ? "revoked" : shown];
    setText(row.state, label + (group.broadcast ? ", broadcast" : ""));
    setText(row.talkerName, group.talker ?? "");
    setText(row.queue, group.queue.length ? `next: ${group.queue.join(", ")}` : "");
    row.talker.title = [row.talkerName.textContent, row.queue.textContent].join("  ");
    const loss = taken && group.packets ? group.lost / (group.packets + group.lost) : 0;
    setText(row.lost, taken && group.packets ? `${(loss * 100).toFixed(0)} %` : "");
    row.lost.classList.toggle("bad", loss > HIGH_LOSS);
    this.#renderTime(row);
  }

  #renderTime({ group, elapsed, left, bar, seconds }) {
    const taken = group.state !== "idle", nowMs = Date.now() - group.clockOffsetMs, leftMs = group.ends_ms - nowMs;
    bar.hidden = !taken;
    setText(elapsed, taken ? formatMinutes(nowMs - group.since_ms) : "");
    setText(seconds, taken ? `${Math.max(0, Math.ceil(leftMs / 1000))} s` : "");
    if (taken) bar.value = Math.max(0, leftMs / (group.ends_ms - group.since_ms));
    left.classList.toggle("ending", taken && leftMs < ENDING_MS);
  }

  #tick() {
    for (const row of this.rows.values()) if (row.group.state !== "idle") this.#renderTime(row);
  }

  /** Sort rows: emergencies first, then by number. Only rows that change their position are moved. */
  #sort() {
    const order = [...this.rows.values()]
      .sort((a, b) => inEmergency(b.group) - inEmergency(a.group) || a.group.group - b.group.group);
    order.forEach(({ tr }, i) => {
      if (this.body.children[i] !== tr) this.body.insertBefore(tr, this.body.children[i] ?? null);
    });
  }
}
