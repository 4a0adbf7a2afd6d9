// The devices of this hub's groups: where from and how long ago they were heard, private calls, new groups.
import { $, age, el, say } from "./dom.js";

export class Devices {
  /** call(device), locate(device), listenIn(device) or null, watch(device) or null, show(device), make(name, devices) */
  constructor(on) {
    this.on = on;
    this.rows = new Map();
    this.body = $("devices").querySelector("tbody");
    this.body.classList.toggle("ambient", Boolean(on.listenIn));
    this.body.classList.toggle("watch", Boolean(on.watch));
    $("find").oninput = () => this.#filter();
    $("make").onsubmit = e => {
      e.preventDefault();
      on.make($("make-name").value.trim(), this.picked);
    };
    $("make-name").oninput = () => this.#count();
    setInterval(() => this.#ages(), 1000);
    this.#count();
  }

  get picked() {
    return [...this.rows.values()].filter(row => row.pick.checked).map(row => row.device);
  }

  unpick() {
    for (const { pick } of this.rows.values()) pick.checked = false;
    $("make-name").value = "";
    this.#count();
  }

  /** Have exactly these devices. */
  take(names) {
    for (const [name, { tr }] of this.rows) {
      if (!names.has(name)) {
        tr.remove();
        this.rows.delete(name);
      }
    }
    for (const name of [...names].sort()) if (!this.rows.has(name)) this.#make(name);
    this.#filter();
    this.#count();
  }

  /** Take the newest fix of a device. */
  fix(fix) {
    const row = this.rows.get(fix.device);
    if (!row) return;
    row.heard = Date.now() - (fix.age_s ?? 0) * 1000;
    say(row.battery, fix.battery_pct === null || fix.battery_pct === undefined ? "" : `, battery ${fix.battery_pct} %`);
    row.battery.classList.toggle("bad", fix.battery_pct < 15);
    this.#ages();
  }

  /** Say something at a device. */
  note(device, text) {
    const row = this.rows.get(device);
    if (row) say(row.note, text);
  }

  #make(device) {
    const button = (textContent, title, does) => el("button", { textContent, title, onclick: () => does(device) });
    const row = {
      device, heard: null, pick: el("input", { type: "checkbox", onchange: () => this.#count() }),
      seen: el("span", { textContent: "no position" }), battery: el("span"),
      note: el("b", { className: "note" }),
    };
    const doings = el("td", { className: "do" }, button("Call", "A private call: hold to talk afterwards", this.on.call),
      button("Locate", "Ask for its position, show it on the map", this.on.locate));
    if (this.on.listenIn) doings.append(button("Listen in", "Open its microphone", this.on.listenIn));
    if (this.on.watch) doings.append(button("Watch", "What its camera sees, now", this.on.watch));
    const facts = el("small", { className: "under" }, row.seen, row.battery, row.note);
    row.tr = el("tr", {}, el("td", {}, el("label", {}, row.pick, el("span", {}, device, facts))), doings);
    row.tr.cells[0].title = device;
    this.rows.set(device, row);
    this.body.append(row.tr);
  }

  #filter() {
    const wanted = $("find").value.toLowerCase();
    for (const [name, { tr }] of this.rows) tr.hidden = !name.toLowerCase().includes(wanted);
  }

  #count() {
    const n = this.picked.length, button = $("make").querySelector("button");
    say(button, `Make a group of ${n}`);
    button.disabled = !n || !$("make-name").value.trim();
  }

  #ages() {
    for (const { heard, seen } of this.rows.values()) if (heard !== null) say(seen, `${age((Date.now() - heard) / 1000)} ago`);
  }
}
