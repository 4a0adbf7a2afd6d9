// Live views: what a device's camera sees, who watches it, and how long.
import { $, el, minutes, say } from "./dom.js";

const SECONDS = 120;  // that one is asked for
const SILENT_MS = 3000;  // without a picture: it is told

export class Live {
  /** start(device, seconds), stop(device): ask the hub, false when it refuses; note(device, text): at the device */
  constructor(on) {
    this.on = on;
    this.rows = new Map();  // of the hub, by device
    this.tiles = new Map();  // what is watched here, by device
    setInterval(() => this.#clock(), 500);
  }

  /** Have the views that are on; what was watched here before the hub went is over. */
  begin(rows) {
    for (const device of [...this.rows.keys()]) this.#forget(device);
    for (const tile of this.tiles.values()) tile.over("the hub was not reachable");
    rows.forEach(row => this.take(row));
  }

  /** Take how a view is now. */
  take(row) {
    if (row.state === "over") this.#forget(row.device);
    else this.rows.set(row.device, { ...row, since: performance.now() - row.on_ms });
    const tile = this.tiles.get(row.device);
    if (tile?.view === row.view && row.state === "over") tile.over(row.why);
    this.#clock();
  }

  /** Take a picture of a view. */
  show(view, jpeg) {
    for (const tile of this.tiles.values()) if (tile.view === view) tile.show(jpeg);
  }

  /** Watch a device. */
  async watch(device) {
    let tile = this.tiles.get(device);
    if (!tile) {
      tile = new Tile(device, { again: () => this.watch(device), stop: () => this.#stop(device), close: () => this.#close(device) });
      this.tiles.set(device, tile);
      $("live").append(tile.figure);
    } else if (tile.state !== "over") return;
    tile.begin();
    const view = await this.on.start(device, SECONDS);
    if (view === null) return tile.over("refused");
    tile.view = view;
    this.#clock();
  }

  #stop(device) {
    this.tiles.get(device).over("stopped");
    this.on.stop(device);
  }

  #close(device) {
    this.tiles.get(device).figure.remove();
    this.tiles.delete(device);
  }

  #forget(device) {
    this.rows.delete(device);
    this.on.note(device, "");
  }

  #clock() {
    for (const [device, row] of this.rows) {
      const long = row.state === "on" ? `${minutes(performance.now() - row.since)} of ${minutes(row.seconds * 1000)}` : "asked for";
      this.on.note(device, `◉ ${row.watchers.join(", ")} ${long}`);
      const tile = this.tiles.get(device);
      if (tile?.view === row.view) tile.tell(row, long);
    }
  }
}

/** One device's camera. */
class Tile {
  constructor(device, { again, stop, close }) {
    this.canvas = el("canvas", { width: 320, height: 240 });
    this.facts = el("span", { role: "status" });
    const button = (textContent, onclick) => el("button", { textContent, onclick });
    this.stop = button("Stop", stop);
    this.again = button("Again", again);
    this.close = button("Close", close);
    const larger = button("⤢", () => larger.setAttribute("aria-pressed", this.figure.classList.toggle("large")));
    larger.title = "Larger or smaller";
    larger.setAttribute("aria-label", larger.title);
    this.canvas.setAttribute("aria-label", `Camera of ${device}`);
    this.figure = el("figure", { data: { device } }, this.canvas,
      el("figcaption", {}, el("b", { textContent: device }), this.facts, larger, this.stop, this.again, this.close));
  }

  begin() {
    this.view = null;
    this.came = performance.now();
    this.#state("asked", "asked for");
  }

  over(why) {
    this.view = null;
    if (this.state !== "over") this.#state("over", `over: ${why}`);
  }

  /** Tell how it is, from the hub's row. */
  tell(row, long) {
    const silent = performance.now() - this.came;
    const slow = row.state === "on" && silent > SILENT_MS;
    this.#state(row.state, slow ? `no picture for ${Math.floor(silent / 1000)} s` : `${long}, ${row.watchers.join(", ")}`);
    this.facts.classList.toggle("bad", slow);
  }

  /** Draw a picture; when the one before is not drawn yet, the newest of those that come meanwhile is next. */
  async show(jpeg) {
    this.next = jpeg;
    if (this.drawing) return;
    this.drawing = true;
    while (this.next) {
      const blob = new Blob([this.next], { type: "image/jpeg" });
      this.next = null;
      const picture = await createImageBitmap(blob).catch(() => null);
      if (!picture) continue;  // no JPEG
      if (this.canvas.width !== picture.width) this.canvas.width = picture.width;
      if (this.canvas.height !== picture.height) this.canvas.height = picture.height;
      this.canvas.getContext("2d").drawImage(picture, 0, 0);
      picture.close();
      this.came = performance.now();
      this.figure.dataset.pictures = Number(this.figure.dataset.pictures ?? 0) + 1;
    }
    this.drawing = false;
  }

  #state(state, text) {
    this.state = this.figure.dataset.state = state;
    this.stop.hidden = state === "over";
    this.again.hidden = this.close.hidden = state !== "over";
    this.facts.classList.remove("bad");
    this.facts.title = text;
    say(this.facts, text);
  }
}
