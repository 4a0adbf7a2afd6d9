// Map of the devices: a plan in metres, north up, without background tiles. It loads nothing from other servers.

const MAX_TRACK_POINTS = 400;  // per device
const EARTH_RADIUS_M = 6371008.8;
const LABEL_PX = 110;  // width of a label
const MIN_SCALE = 1e-4, MAX_SCALE = 20;  // pixels per metre
const MIN_SPAN_M = 300;  // shown at least
const KEY_STEP_PX = 40;
const KEY_STEPS = {
  ArrowLeft: [KEY_STEP_PX, 0], ArrowRight: [-KEY_STEP_PX, 0], ArrowUp: [0, KEY_STEP_PX], ArrowDown: [0, -KEY_STEP_PX],
};
const TALKER_LABELS = { taken: "  talks", emergency: "  emergency" };

export class DeviceMap {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.tracks = new Map();  // device: [east, north, accuracy] in metres, oldest first
    this.talkers = new Map();  // device: "taken" or "emergency"
    this.selected = null;
    this.showsAll = true;
    new ResizeObserver(() => this.draw()).observe(canvas);
    this.#addPointerHandlers(canvas);
    canvas.addEventListener("keydown", e => this.#onKeyDown(e));
  }

  #addPointerHandlers(canvas) {
    let last = null;
    canvas.addEventListener("pointerdown", e => {
      last = [e.clientX, e.clientY];
      canvas.setPointerCapture(e.pointerId);
    });
    canvas.addEventListener("pointerup", () => { last = null; });
    canvas.addEventListener("pointermove", e => {
      if (!last) return;
      this.#pan(e.clientX - last[0], e.clientY - last[1]);
      last = [e.clientX, e.clientY];
    });
    canvas.addEventListener("wheel", e => {
      e.preventDefault();
      this.#zoom(Math.exp(-e.deltaY / 400));
    }, { passive: false });
  }

  #onKeyDown(e) {
    const step = KEY_STEPS[e.key];
    if (step) this.#pan(...step);
    else if (e.key === "+" || e.key === "-") this.#zoom(e.key === "+" ? 1.4 : 1 / 1.4);
    else if (e.key === "0") this.showAll();
    else return;
    e.preventDefault();
  }

  /** Add the newest position of a device. */
  addPosition(position) {
    if (position.lat_deg === null || position.lat_deg === undefined) return;
    this.origin ??= [position.lat_deg, position.lon_deg];
    const track = this.tracks.get(position.device) ?? [];
    const rad = Math.PI / 180;
    const east = (position.lon_deg - this.origin[1]) * rad * Math.cos(this.origin[0] * rad) * EARTH_RADIUS_M;
    track.push([east, (position.lat_deg - this.origin[0]) * rad * EARTH_RADIUS_M, position.hacc_m ?? 0]);
    if (track.length > MAX_TRACK_POINTS) track.shift();
    this.tracks.set(position.device, track);
    this.draw();
  }

  /** Set who talks: state "taken" or "emergency" by device. */
  setTalkers(talkers) {
    this.talkers = talkers;
    this.draw();
  }

  /** Centre the map on a device. */
  show(device) {
    this.selected = device;
    const position = this.tracks.get(device)?.at(-1);
    if (position) {
      this.showsAll = false;
      this.centre = [position[0], position[1]];
      this.scale = Math.max(this.scale ?? 0, 0.5);
    }
    this.draw();
  }

  /** Show all devices from now on. */
  showAll() {
    this.showsAll = true;
    this.draw();
  }

  #pan(x, y) {
    if (!this.centre) return;
    this.showsAll = false;
    this.centre = [this.centre[0] - x / this.scale, this.centre[1] + y / this.scale];
    this.draw();
  }

  #zoom(factor) {
    if (!this.centre) return;
    this.showsAll = false;
    this.scale = Math.min(MAX_SCALE, Math.max(MIN_SCALE, this.scale * factor));
    this.draw();
  }

  #fit(width, height) {
    const positions = [...this.tracks.values()].map(track => track.at(-1));
    const range = axis => [Math.min(...positions.map(p => p[axis])), Math.max(...positions.map(p => p[axis]))];
    const [west, east] = range(0), [south, north] = range(1);
    this.centre = [(west + east) / 2, (south + north) / 2];
    const spanX = Math.max(east - west, MIN_SPAN_M), spanY = Math.max(north - south, MIN_SPAN_M);
    this.scale = Math.min(width / spanX, height / spanY) * 0.72;
  }

  /** Draw with the next frame of the display. */
  draw() {
    cancelAnimationFrame(this.frameRequest);
    this.frameRequest = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    const { canvas, context } = this, ratio = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    const style = getComputedStyle(canvas), colour = name => style.getPropertyValue(name);
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = `13px ${style.fontFamily}`;
    context.fillStyle = colour("--dim");
    if (!this.tracks.size) {
      context.textAlign = "center";
      context.fillText("No positions received yet", width / 2, height / 2);
      return;
    }
    if (this.showsAll) this.#fit(width, height);
    const toPixels = ([east, north]) => [
      width / 2 + (east - this.centre[0]) * this.scale, height / 2 - (north - this.centre[1]) * this.scale,
    ];
    this.#drawGrid(width, height, colour);
    const labels = [...this.tracks].map(([device, track]) => this.#drawTrack(device, track, toPixels, colour));
    this.#drawLabels(labels, colour);
  }

  /** Draw a device's track and return its label. */
  #drawTrack(device, track, toPixels, colour) {
    const { context } = this, talker = this.talkers.get(device), [x, y] = toPixels(track.at(-1));
    const disc = radius => { context.beginPath(); context.arc(x, y, radius, 0, 7); };
    const ink = colour(talker ? `--${talker}` : "--ink");
    context.strokeStyle = context.fillStyle = ink;
    context.globalAlpha = 0.45;
    context.lineWidth = 2;
    context.beginPath();
    for (const position of track) context.lineTo(...toPixels(position));
    context.stroke();
    context.globalAlpha = 0.12;
    disc(track.at(-1)[2] * this.scale);
    context.fill();
    context.globalAlpha = 1;
    disc(talker ? 7 : 5);
    context.fill();
    if (talker || device === this.selected) {
      disc(12);
      context.stroke();
    }
    return { text: device + (TALKER_LABELS[talker] ?? ""), ink, x, y, talks: Boolean(talker) };
  }

  /** Draw the labels over the tracks, those of talkers last; to the left if there is a neighbour to the right. */
  #drawLabels(labels, colour) {
    const { context } = this;
    for (const { text, ink, x, y } of labels.sort((a, b) => a.talks - b.talks)) {
      const crowded = labels.some(other => other.x > x && other.x < x + LABEL_PX && Math.abs(other.y - y) < 12);
      context.textAlign = crowded ? "right" : "left";
      const left = x + (crowded ? -16 : 16);
      context.strokeStyle = colour("--ground");
      context.lineWidth = 4;
      context.strokeText(text, left, y + 4);
      context.fillStyle = ink;
      context.fillText(text, left, y + 4);
    }
  }

  #drawGrid(width, height, colour) {
    const { context } = this, metres = 110 / this.scale, power = 10 ** Math.floor(Math.log10(metres));
    const step = [5, 2, 1].find(n => n * power <= metres) * power, size = step * this.scale;
    const offset = centre => (Math.ceil(centre / step) * step - centre) * this.scale;
    context.strokeStyle = colour("--line");
    context.lineWidth = 1;
    context.beginPath();
    for (let x = (width / 2 + offset(this.centre[0])) % size; x < width; x += size) {
      context.moveTo(x, 0);
      context.lineTo(x, height);
    }
    for (let y = (height / 2 - offset(this.centre[1])) % size; y < height; y += size) {
      context.moveTo(0, y);
      context.lineTo(width, y);
    }
    context.stroke();
    context.fillRect(14, height - 14, size, 3);
    context.textAlign = "left";
    context.fillText(step >= 1000 ? `${step / 1000} km` : `${step} m`, 14, height - 20);
    context.textAlign = "center";
    context.fillText("N", width - 20, 40);
    context.beginPath();
    context.moveTo(width - 20, 10);
    context.lineTo(width - 14, 27);
    context.lineTo(width - 20, 23);
    context.lineTo(width - 26, 27);
    context.fill();
  }
}
