// List of the devices of this hub's groups: age of the position, battery, and actions. Form for a new group.
import { $, button, el, formatAge, setText } from "./dom.js";

const LOW_BATTERY_PCT = 15;

export class DeviceList {
  /** handlers: call(device), locate(device), createGroup(name, devices); listenIn(device), watch(device) or null. */
  constructor(handlers) {
    this.handlers = handlers;
    this.rows = new Map();
    this.body = $("devices").querySelector("tbody");
    this.body.classList.toggle("ambient", Boolean(handlers.listenIn));
    this.body.classList.toggle("watch", Boolean(handlers.watch));
    $("device-filter").oninput = () => this.#filter();
    $("new-group").onsubmit = e => {
      e.preventDefault();
      handlers.createGroup($("new-group-name").value.trim(), this.checked);
    };
    $("new-group-name").oninput = () => this.#renderCount();
    setInterval(() => this.#renderAges(), 1000);
    this.#renderCount();
  }

  /** Names of the devices that are checked for a new group. */
  get checked() {
    return [...this.rows.values()].filter(row => row.checkbox.checked).map(row => row.device);
  }

  uncheckAll() {
    for (const { checkbox } of this.rows.values()) checkbox.checked = false;
    $("new-group-name").value = "";
    this.#renderCount();
  }

  /** Show exactly these devices. */
  setDevices(names) {
    for (const [name, { tr }] of this.rows) {
      if (!names.has(name)) {
        tr.remove();
        this.rows.delete(name);
      }
    }
    for (const name of [...names].sort()) if (!this.rows.has(name)) this.#create(name);
    this.#filter();
    this.#renderCount();
  }

  /** Update the newest position of a device. */
  updatePosition(position) {
    const row = this.rows.get(position.device);
    if (!row) return;
    row.receivedMs = Date.now() - (position.age_s ?? 0) * 1000;
    const known = position.battery_pct !== null && position.battery_pct !== undefined;
    setText(row.battery, known ? `, battery ${position.battery_pct} %` : "");
    setText(row.doubt, position.estimated ? ", position doubtful" : "");
    row.battery.classList.toggle("bad", position.battery_pct < LOW_BATTERY_PCT);
    this.#renderAges();
  }

  /** Show a note at a device. */
  setNote(device, text) {
    const row = this.rows.get(device);
    if (row) setText(row.note, text);
  }

  #create(device) {
    const { call, locate, listenIn, watch } = this.handlers;
    const action = (label, title, handler) => button(label, () => handler(device), { title });
    const row = {
      device, receivedMs: null, checkbox: el("input", { type: "checkbox", onchange: () => this.#renderCount() }),
      age: el("span", { textContent: "no position" }), doubt: el("b", { className: "bad" }), battery: el("span"),
      note: el("b", { className: "note" }),
    };
    const actions = el("td", { className: "actions" },
      action("Call", "Prepare a private call, then hold to talk", call),
      action("Locate", "Request the position and show it on the map", locate));
    if (listenIn) actions.append(action("Listen in", "Open the microphone of the device", listenIn));
    if (watch) actions.append(action("Watch", "Start a live view of the camera", watch));
    const details = el("small", { className: "under" }, row.age, row.doubt, row.battery, row.note);
    row.tr = el("tr", {}, el("td", {}, el("label", {}, row.checkbox, el("span", {}, device, details))), actions);
    row.tr.cells[0].title = device;
    this.rows.set(device, row);
    this.body.append(row.tr);
  }

  #filter() {
    const pattern = $("device-filter").value.toLowerCase();
    for (const [name, { tr }] of this.rows) tr.hidden = !name.toLowerCase().includes(pattern);
  }

  #renderCount() {
    const count = this.checked.length, create = $("new-group").querySelector("button");
    setText(create, `Create group of ${count}`);
    create.disabled = !count || !$("new-group-name").value.trim();
  }

  #renderAges() {
    for (const { receivedMs, age } of this.rows.values())
      if (receivedMs !== null) setText(age, `${formatAge((Date.now() - receivedMs) / 1000)} ago`);
  }
}
