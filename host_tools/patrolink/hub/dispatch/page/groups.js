// The table of talk groups: who has which floor, for how long yet, who waits. Emergencies stand first.
import { $, el, minutes, say } from "./dom.js";

const SOON_MS = 5000;  // the device warns its wearer at the same time
const LOSSY = 0.03;
const WORDS = { idle: "○ idle", talks: "● talks", mine: "▶ you talk", wait: "◔ queued", alarm: "▲ emergency", ending: "● is stopped" };
const KINDS = { dynamic: "made here", private: "private" };

const loud = group => group.state !== "idle" && group.emergency;

export class Groups {
  /** listen(group, on), end(group): what a person does; chosen(group): the selection */
  constructor(on) {
    this.on = on;
    this.rows = new Map();
    this.body = $("groups").querySelector("tbody");
    this.selected = null;
    this.mine = { group: null, state: "" };  // where our key is down: "wait" or "mine"
    this.listening = new Set();
    setInterval(() => this.#tick(), 250);
  }

  get(number) {
    return this.rows.get(number)?.group;
  }

  get all() {
    return [...this.rows.values()].map(row => row.group);
  }

  /** Take groups as the hub tells them. */
  take(...groups) {
    let moves = false;
    for (const group of groups) {
      group.offset = Date.now() - group.now_ms;  // the hub's clock to ours
      const row = this.rows.get(group.group) ?? this.#make(group);
      moves ||= !row.group || loud(row.group) !== loud(group);
      row.group = group;
      this.#show(row);
    }
    if (moves) this.#order();
  }

  /** Take how much of a group's burst has come. */
  counts({ group, packets, lost }) {
    const row = this.rows.get(group);
    if (!row) return;
    Object.assign(row.group, { packets, lost });
    this.#show(row);
  }

  drop(number) {
    this.rows.get(number)?.tr.remove();
    this.rows.delete(number);
    if (this.selected === number) this.select(Number(this.body.querySelector("tr:not([hidden])")?.dataset.group) || null);
  }

  clear() {
    for (const number of [...this.rows.keys()]) this.drop(number);
  }

  select(number) {
    this.selected = number;
    for (const [one, { tr }] of this.rows) tr.setAttribute("aria-selected", one === number);
    this.rows.get(number)?.tr.scrollIntoView({ block: "nearest" });
    this.on.chosen(number);
  }

  /** Select the next one up or down. */
  step(by) {
    const order = [...this.body.children].filter(tr => !tr.hidden).map(tr => Number(tr.dataset.group));
    const at = order.indexOf(this.selected) + by;  // none: the first
    if (order.length) this.select(order[Math.min(order.length - 1, Math.max(0, at))]);
  }

  /** Show where our key is down: state "wait", "mine" or "". */
  press(group, state) {
    const before = this.mine.group;
    this.mine = { group, state };
    for (const number of [before, group]) if (this.rows.has(number)) this.#show(this.rows.get(number));
  }

  listens(number, on) {
    if (on) this.listening.add(number);
    else this.listening.delete(number);
    const row = this.rows.get(number);
    if (row) {
      row.listen.setAttribute("aria-pressed", on);
      row.tr.dataset.heard = "";
      this.#show(row);
    }
  }

  /** A player's report: light up what is heard just now. */
  heard(number, report) {
    const row = this.rows.get(number);
    if (row) Object.assign(row.tr.dataset, { heard: report.level > 0.003 ? "yes" : "", ...report });
  }

  #make({ group: number, name, kind }) {
    const cell = (className, ...children) => el("td", { className }, ...children);
    const key = el("button", { className: "hold", textContent: "Talk", title: "Hold to talk", data: { group: number } });
    const row = {
      listen: el("button", { className: "listen", textContent: "Listen", onclick: () => this.on.listen(number, !this.listening.has(number)) }),
      bar: el("progress", { max: 1, value: 0 }), seconds: el("span"),
      state: cell("state"), since: cell("since num"), lost: cell("lost num"), who: el("span"), queue: el("small", { className: "under queue" }),
    };
    row.talker = cell("talker", row.who, row.queue);
    row.left = cell("left", row.bar, row.seconds);
    row.tr = el("tr", { data: { group: number }, onclick: () => this.select(number) },
      cell("name", name, el("small", { textContent: KINDS[kind] ?? "" })),
      row.state, row.talker, row.since, row.left, row.lost, cell("do", row.listen, key));
    row.tr.cells[0].title = `${name}, group ${number}`;
    if (kind === "dynamic") row.tr.lastChild.prepend(el("button", { textContent: "End", onclick: () => this.on.end(number) }));
    row.listen.setAttribute("aria-pressed", this.listening.has(number));
    row.tr.setAttribute("aria-selected", number === this.selected);
    this.rows.set(number, row);
    return row;
  }

  #show(row) {
    const { group, tr } = row, own = this.mine.group === group.group ? this.mine.state : "";
    const taken = group.state !== "idle", shown = own || (!taken ? "idle" : group.emergency ? "alarm" : "talks");
    // Every device has a private group: it is here while it is used.
    tr.hidden = group.kind === "private" && !taken && !this.listening.has(group.group);
    tr.dataset.state = shown;
    tr.dataset.floor = group.state;
    say(row.state, (WORDS[group.state === "pending revoke" && !own ? "ending" : shown]) + (group.broadcast ? ", broadcast" : ""));
    say(row.who, group.talker ?? "");
    say(row.queue, group.queue.length ? `next: ${group.queue.join(", ")}` : "");
    row.talker.title = [row.who.textContent, row.queue.textContent].join("  ");
    const part = taken && group.packets ? group.lost / (group.packets + group.lost) : 0;
    say(row.lost, taken && group.packets ? `${(part * 100).toFixed(0)} %` : "");
    row.lost.classList.toggle("bad", part > LOSSY);
    this.#time(row);
  }

  #time({ group, since, left, bar, seconds }) {
    const taken = group.state !== "idle", now = Date.now() - group.offset, rest = group.ends_ms - now;
    bar.hidden = !taken;
    say(since, taken ? minutes(now - group.since_ms) : "");
    say(seconds, taken ? `${Math.max(0, Math.ceil(rest / 1000))} s` : "");
    if (taken) bar.value = Math.max(0, rest / (group.ends_ms - group.since_ms));
    left.classList.toggle("soon", taken && rest < SOON_MS);
  }

  #tick() {
    for (const row of this.rows.values()) if (row.group.state !== "idle") this.#time(row);
  }

  /** Emergencies first, then as they are numbered. A row moves only when it has to. */
  #order() {
    const order = [...this.rows.values()]
      .sort((a, b) => loud(b.group) - loud(a.group) || a.group.group - b.group.group);
    order.forEach(({ tr }, i) => {
      if (this.body.children[i] !== tr) this.body.insertBefore(tr, this.body.children[i] ?? null);
    });
  }
}
