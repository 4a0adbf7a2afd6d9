// List of clips: upload progress, verdict and picture. Commands for snapshots and recordings.
import { $, button, el, formatDuration, formatTime, setText } from "./dom.js";

const MAX_ROWS = 200;
const VERDICTS = {
  valid: "● valid", "valid with gaps": "◐ valid with gaps", tampered: "▲ tampered", unverifiable: "○ unverifiable",
};
const TRIGGERS = {
  sos: "▲ SOS", man_down: "▲ man down", button: "button", dispatcher: "dispatcher", geofence: "geofence", photo: "snapshot",
};
const ACTIONS = { snapshot: "snapshot", record: "start_recording", "record-stop": "stop_recording" };
const clipId = ({ device, clip }) => `${device} ${clip}`;
const describeTime = timeMs => new Date(timeMs).toLocaleString("en-GB");

export class ClipList {
  /** handlers: sendCommand(device, action), preserve(device, clip). */
  constructor(handlers) {
    this.handlers = handlers;
    this.entries = new Map();  // clip id: { row from the hub, tr }
    this.body = $("clips").querySelector("tbody");
    for (const [id, action] of Object.entries(ACTIONS))
      $(id).onclick = () => handlers.sendCommand($("clips-device").value, action);
    $("picture").onclick = () => $("picture").close();
  }

  /** Show these clips. `rows` is null if the hub stores none or they cannot be listed; `error` says why. */
  setRows(rows, error = "") {
    $("clips").hidden = rows === null && !error;
    setText($("clips-error"), error);
    const previous = this.entries;
    this.entries = new Map((rows ?? []).map(row => [clipId(row), this.#entry(row, previous.get(clipId(row)))]));
    this.#render();
  }

  /** Add or update a clip. */
  update(row) {
    this.entries.set(clipId(row), this.#entry(row, this.entries.get(clipId(row))));
    this.#render();
  }

  /** Remove a clip that the site has deleted. */
  remove(row) {
    this.entries.delete(clipId(row));
    this.#render();
  }

  /** Set the devices that can be selected. */
  setDevices(names) {
    const selected = $("clips-device").value;
    const options = [...names].sort().map(name => el("option", { value: name, textContent: name }));
    $("clips-device").replaceChildren(...options);
    if (names.has(selected)) $("clips-device").value = selected;
  }

  #render() {
    const newestFirst = (a, b) => b.row.time_ms - a.row.time_ms || b.row.clip - a.row.clip;
    const shown = [...this.entries.values()].sort(newestFirst).slice(0, MAX_ROWS).map(({ tr }) => tr);
    // Move only rows that changed their position: a loaded picture is not loaded again, and the focus stays.
    shown.forEach((tr, i) => this.body.children[i] === tr || this.body.insertBefore(tr, this.body.children[i] ?? null));
    while (this.body.children.length > shown.length) this.body.lastChild.remove();
  }

  #entry(row, previous) {
    const tr = previous?.tr ?? el("tr", { data: { id: clipId(row) } },
      el("td", { className: "preview" }), el("td"), el("td", { className: "actions" }));
    const [preview, details, actions] = tr.cells;
    if (!previous || previous.row.picture !== row.picture || previous.row.state !== row.state)
      preview.replaceChildren(this.#preview(row));
    const time = row.time_ms && row.state !== "missing" ? row.time_ms : null;
    const findings = (row.findings ?? []).map(finding => `\n${finding.where}: ${finding.words}`).join("");
    details.title = `${row.device}, clip ${row.clip}${time ? `, ${describeTime(time)}` : ""}${findings}`;
    const subtitle = `${TRIGGERS[row.trigger] ?? ""} ${time ? formatTime(new Date(time)) : ""}`;
    details.replaceChildren(row.device, el("small", { textContent: subtitle }), this.#status(row));
    tr.dataset.verdict = row.verdict;
    if (row.state !== "missing") actions.replaceChildren(this.#preserveButton(row, actions.firstChild));
    return { row, tr };
  }

  #preserveButton(row, existing) {
    const preserve = existing ?? button("Preserve", () => this.handlers.preserve(row.device, row.clip));
    preserve.title = row.kept ? "The clip is preserved" : "Preserve the clip at the hub and on the device";
    preserve.setAttribute("aria-label", `Preserve clip ${row.clip} of ${row.device}`);
    preserve.setAttribute("aria-pressed", Boolean(row.kept));
    return preserve;
  }

  #status(row) {
    const duration = row.duration_ms ? `, ${formatDuration(row.duration_ms)}` : "";
    const label = (textContent, bad = false) => el("small", { className: `under${bad ? " bad" : ""}`, textContent });
    if (row.state === "missing") return label(`▲ clip ${row.clip} missing`, true);
    if (row.verdict) return label(`${VERDICTS[row.verdict]}${duration}`, row.verdict === "tampered");
    if (row.state === "told") return label(`not uploaded yet${duration}`);
    const fraction = row.bytes ? row.bytes_here / row.bytes : 0;
    const progress = el("progress", { value: fraction });
    return el("small", { className: "under" }, progress, ` ${Math.floor(100 * fraction)} % uploaded${duration}`);
  }

  #preview(row) {
    if (row.state === "missing" || row.state === "told") return "";
    if (!row.picture) {
      const lock = el("img", { className: "lock", src: "/page/lock.svg", alt: "" });
      return el("span", { className: "quiet" }, lock, "encrypted");
    }
    const src = `/clips/${encodeURIComponent(row.device)}/${row.clip}/picture`;
    const showLarge = () => {
      $("picture").querySelector("img").src = src;
      setText($("picture-caption"), `${row.device}, clip ${row.clip}, ${row.time_ms ? describeTime(row.time_ms) : ""}`);
      $("picture").showModal();
    };
    const thumbnail = el("button", { className: "thumb", title: "Enlarge", onclick: showLarge },
      el("img", { src, loading: "lazy", alt: "" }));
    thumbnail.setAttribute("aria-label", `Picture of clip ${row.clip} of ${row.device}`);
    return thumbnail;
  }
}
