// Clips: what devices recorded, how far it is here, its verdict and its picture; snapshots and recordings by command.
import { $, el, length, say } from "./dom.js";

const MOST = 200;
const VERDICTS = { valid: "● valid", "valid with gaps": "◐ valid with gaps", tampered: "▲ tampered with", unverifiable: "○ not verifiable" };
const WORDS = { sos: "▲ SOS", man_down: "▲ man down", button: "button", dispatcher: "dispatcher", geofence: "geofence", photo: "snapshot" };
const idOf = ({ device, clip }) => `${device} ${clip}`;

export class Clips {
  /** command(device, action): sends it; preserve(device, clip) */
  constructor(on) {
    this.on = on;
    this.rows = new Map();  // by device and number: what the hub told, and its <tr>
    this.body = $("clips").querySelector("tbody");
    for (const [id, action] of [["snapshot", "snapshot"], ["record", "start_recording"], ["record-stop", "stop_recording"]])
      $(id).onclick = () => on.command($("clips-of").value, action);
    $("picture").onclick = () => $("picture").close();
  }

  /** Have these, newest first; null: this hub takes none. `why`: they are not to be had. */
  take(rows, why = "") {
    $("clips").hidden = rows === null && !why;
    say($("clips-why"), why);
    const before = this.rows;
    this.rows = new Map((rows ?? []).map(row => [idOf(row), this.#made(row, before.get(idOf(row)))]));
    this.#draw();
  }

  /** A clip has come or changed. */
  change(row) {
    this.rows.set(idOf(row), this.#made(row, this.rows.get(idOf(row))));
    this.#draw();
  }

  /** The site keeps it no longer. */
  drop(row) {
    this.rows.delete(idOf(row));
    this.#draw();
  }

  /** Have these devices to choose from. */
  devices(names) {
    const before = $("clips-of").value;
    $("clips-of").replaceChildren(...[...names].sort().map(name => el("option", { value: name, textContent: name })));
    if (names.has(before)) $("clips-of").value = before;
  }

  #draw() {
    const newest = (a, b) => b.row.time_ms - a.row.time_ms || b.row.clip - a.row.clip;
    const shown = [...this.rows.values()].sort(newest).slice(0, MOST).map(({ tr }) => tr);
    // Only what moved: a picture that stays is not asked for again, a focus is kept.
    shown.forEach((tr, at) => this.body.children[at] === tr || this.body.insertBefore(tr, this.body.children[at] ?? null));
    while (this.body.children.length > shown.length) this.body.lastChild.remove();
  }

  #made(row, before) {
    const tr = before?.tr ?? el("tr", { data: { id: idOf(row) } }, el("td", { className: "see" }), el("td"), el("td", { className: "do" }));
    const [see, facts, doings] = tr.cells;
    if (!before || before.row.picture !== row.picture || before.row.state !== row.state) see.replaceChildren(this.#picture(row));
    const at = row.time_ms && row.state !== "missing" ? new Date(row.time_ms) : null, why = (row.findings ?? []).map(one => `${one.where}: ${one.words}`).join("\n");
    facts.title = `${row.device}, clip ${row.clip}${at ? `, ${at.toLocaleString("en-GB")}` : ""}${why ? `\n${why}` : ""}`;
    facts.replaceChildren(row.device, el("small", { textContent: `${WORDS[row.trigger] ?? ""} ${at ? at.toLocaleTimeString("en-GB") : ""}` }),
      this.#state(row));
    tr.dataset.verdict = row.verdict;
    const button = doings.firstChild ?? el("button", { textContent: "Keep", onclick: () => this.on.preserve(row.device, row.clip) });
    button.title = row.kept ? "It is kept" : "Keep it, here and at the device";
    button.setAttribute("aria-label", `Keep clip ${row.clip} of ${row.device}`);
    button.setAttribute("aria-pressed", Boolean(row.kept));
    if (row.state !== "missing") doings.replaceChildren(button);
    return { row, tr };
  }

  #state(row) {
    const long = row.duration_ms ? `, ${length(row.duration_ms)}` : "";
    if (row.state === "missing") return el("small", { className: "under bad", textContent: `▲ clip ${row.clip} has not come` });
    if (row.verdict) {
      const bad = row.verdict === "tampered" ? " bad" : "";
      return el("small", { className: `under${bad}`, textContent: `${VERDICTS[row.verdict]}${long}` });
    }
    if (row.state === "told") return el("small", { className: "under", textContent: `has not begun to come${long}` });
    const part = row.bytes ? row.bytes_here / row.bytes : 0;
    return el("small", { className: "under" }, el("progress", { value: part }), ` ${Math.floor(100 * part)} % here${long}`);
  }

  #picture(row) {
    if (row.state === "missing" || row.state === "told") return "";
    if (!row.picture) return el("span", { className: "quiet" }, el("img", { className: "lock", src: "/page/lock.svg", alt: "" }), "closed");
    const src = `/clips/${encodeURIComponent(row.device)}/${row.clip}/picture`;
    const show = () => {
      $("picture").querySelector("img").src = src;
      say($("picture-of"), `${row.device}, clip ${row.clip}, ${row.time_ms ? new Date(row.time_ms).toLocaleString("en-GB") : ""}`);
      $("picture").showModal();
    };
    const img = el("img", { src, loading: "lazy", alt: "" });
    const button = el("button", { className: "thumb", title: "Show it large", onclick: show }, img);
    button.setAttribute("aria-label", `Picture of clip ${row.clip} of ${row.device}`);
    return button;
  }
}
