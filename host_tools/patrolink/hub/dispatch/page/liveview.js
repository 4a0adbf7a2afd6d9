// Live views: tiles with the cameras that are watched here, and who watches which device.
import { $, button, el, formatMinutes, setText } from "./dom.js";

const DURATION_S = 120;
const NO_PICTURE_MS = 3000;  // after that the tile reports it

export class LiveViews {
  /** handlers: start(device, seconds) resolves to null if refused, stop(device), setNote(device, text). */
  constructor(handlers) {
    this.handlers = handlers;
    this.sessions = new Map();  // all live views of the hub, by device
    this.tiles = new Map();  // those that are watched here, by device
    setInterval(() => this.#tick(), 500);
  }

  /** Show the hub's live views after a connection. What was watched before is over. */
  reset(rows) {
    for (const device of [...this.sessions.keys()]) this.#removeSession(device);
    for (const tile of this.tiles.values()) tile.end("the hub was not reachable");
    rows.forEach(row => this.update(row));
  }

  /** Add, update or remove a live view. */
  update(row) {
    if (row.state === "over") this.#removeSession(row.device);
    else this.sessions.set(row.device, { ...row, startedAt: performance.now() - row.on_ms });
    const tile = this.tiles.get(row.device);
    if (tile?.view === row.view && row.state === "over") tile.end(row.why);
    this.#tick();
  }

  /** Show a picture of a live view. */
  showPicture(view, jpeg) {
    for (const tile of this.tiles.values()) if (tile.view === view) tile.showPicture(jpeg);
  }

  /** Watch a device. */
  async watch(device) {
    let tile = this.tiles.get(device);
    if (!tile) {
      tile = new LiveTile(device, {
        restart: () => this.watch(device), stop: () => this.#stop(device), close: () => this.#close(device),
      });
      this.tiles.set(device, tile);
      $("live").append(tile.figure);
    } else if (tile.state !== "over") return;
    tile.start();
    const view = await this.handlers.start(device, DURATION_S);
    if (view === null) return tile.end("refused");
    tile.view = view;
    this.#tick();
  }

  #stop(device) {
    this.tiles.get(device).end("stopped");
    this.handlers.stop(device);
  }

  #close(device) {
    this.tiles.get(device).figure.remove();
    this.tiles.delete(device);
  }

  #removeSession(device) {
    this.sessions.delete(device);
    this.handlers.setNote(device, "");
  }

  #tick() {
    for (const [device, row] of this.sessions) {
      const elapsed = formatMinutes(performance.now() - row.startedAt);
      const time = row.state === "on" ? `${elapsed} of ${formatMinutes(row.seconds * 1000)}` : "requested";
      this.handlers.setNote(device, `◉ ${row.watchers.join(", ")} ${time}`);
      const tile = this.tiles.get(device);
      if (tile?.view === row.view) tile.showStatus(row, time);
    }
  }
}

/** Camera of one device. */
class LiveTile {
  /** handlers: restart(), stop(), close(). */
  constructor(device, { restart, stop, close }) {
    this.canvas = el("canvas", { width: 320, height: 240 });
    this.canvas.setAttribute("aria-label", `Camera of ${device}`);
    this.status = el("span", { role: "status" });
    this.stopButton = button("Stop", stop);
    this.restartButton = button("Restart", restart);
    this.closeButton = button("Close", close);
    const resize = button("⤢", () => resize.setAttribute("aria-pressed", this.figure.classList.toggle("large")));
    resize.title = "Larger or smaller";
    resize.setAttribute("aria-label", resize.title);
    const caption = el("figcaption", {}, el("b", { textContent: device }), this.status, resize,
      this.stopButton, this.restartButton, this.closeButton);
    this.figure = el("figure", { data: { device } }, this.canvas, caption);
  }

  start() {
    this.view = null;
    this.pictureAt = performance.now();
    this.#setState("asked", "requested");
  }

  end(reason) {
    this.view = null;
    if (this.state !== "over") this.#setState("over", `ended: ${reason}`);
  }

  /** Show the state from the hub's row. */
  showStatus(row, time) {
    const silenceMs = performance.now() - this.pictureAt;
    const stalled = row.state === "on" && silenceMs > NO_PICTURE_MS;
    const text = stalled ? `no picture for ${Math.floor(silenceMs / 1000)} s` : `${time}, ${row.watchers.join(", ")}`;
    this.#setState(row.state, text);
    this.status.classList.toggle("bad", stalled);
  }

  /** Draw a picture. While one is decoded, only the newest of the following ones is kept. */
  async showPicture(jpeg) {
    this.nextJpeg = jpeg;
    if (this.drawing) return;
    this.drawing = true;
    while (this.nextJpeg) {
      const blob = new Blob([this.nextJpeg], { type: "image/jpeg" });
      this.nextJpeg = null;
      const picture = await createImageBitmap(blob).catch(() => null);
      if (picture) this.#draw(picture);
    }
    this.drawing = false;
  }

  #draw(picture) {
    if (this.canvas.width !== picture.width) this.canvas.width = picture.width;
    if (this.canvas.height !== picture.height) this.canvas.height = picture.height;
    this.canvas.getContext("2d").drawImage(picture, 0, 0);
    picture.close();
    this.pictureAt = performance.now();
    this.figure.dataset.pictures = Number(this.figure.dataset.pictures ?? 0) + 1;
  }

  #setState(state, text) {
    this.state = this.figure.dataset.state = state;
    this.stopButton.hidden = state === "over";
    this.restartButton.hidden = this.closeButton.hidden = state !== "over";
    this.status.classList.remove("bad");
    this.status.title = text;
    setText(this.status, text);
  }
}
