// Where the devices are: a plan in metres around them, north up. No tiles, nothing from outside.

const TRACK = 400;  // points kept of each device
const EARTH = 6371008.8;
const NAME = 110;  // pixels of a name beside its place
const LEAST = 1e-4, MOST = 20;  // pixels a metre

const disc = (pen, x, y, size) => { pen.beginPath(); pen.arc(x, y, size, 0, 7); };

export class Plan {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.tracks = new Map();
    this.marked = new Map();  // device: "talks" or "alarm"
    this.chosen = null;
    this.follow = true;
    new ResizeObserver(() => this.draw()).observe(canvas);
    let drag = null;
    canvas.addEventListener("pointerdown", e => { drag = [e.clientX, e.clientY]; canvas.setPointerCapture(e.pointerId); });
    canvas.addEventListener("pointerup", () => { drag = null; });
    canvas.addEventListener("pointermove", e => {
      if (!drag) return;
      this.#move(e.clientX - drag[0], e.clientY - drag[1]);
      drag = [e.clientX, e.clientY];
    });
    canvas.addEventListener("wheel", e => {
      e.preventDefault();
      this.#zoom(Math.exp(-e.deltaY / 400));
    }, { passive: false });
    canvas.addEventListener("keydown", e => {
      const step = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[e.key];
      if (step) this.#move(...step);
      else if (e.key === "+" || e.key === "-") this.#zoom(e.key === "+" ? 1.4 : 1 / 1.4);
      else if (e.key === "0") this.fit();
      else return;
      e.preventDefault();
    });
  }

  /** Take the newest fix of a device. */
  take(fix) {
    if (fix.lat_deg === null || fix.lat_deg === undefined) return;
    this.origin ??= [fix.lat_deg, fix.lon_deg];
    const track = this.tracks.get(fix.device) ?? [];
    const rad = Math.PI / 180, east = (fix.lon_deg - this.origin[1]) * rad * Math.cos(this.origin[0] * rad) * EARTH;
    track.push([east, (fix.lat_deg - this.origin[0]) * rad * EARTH, fix.hacc_m ?? 0]);
    if (track.length > TRACK) track.shift();
    this.tracks.set(fix.device, track);
    this.draw();
  }

  /** Show a device in the middle. */
  show(device) {
    this.chosen = device;
    const last = this.tracks.get(device)?.at(-1);
    if (last) {
      this.follow = false;
      this.middle = [last[0], last[1]];
      this.scale = Math.max(this.scale ?? 0, 0.5);
    }
    this.draw();
  }

  fit() {
    this.follow = true;
    this.draw();
  }

  #move(x, y) {
    if (!this.middle) return;
    this.follow = false;
    this.middle = [this.middle[0] - x / this.scale, this.middle[1] + y / this.scale];
    this.draw();
  }

  #zoom(factor) {
    if (!this.middle) return;
    this.follow = false;
    this.scale = Math.min(MOST, Math.max(LEAST, this.scale * factor));
    this.draw();
  }

  #fit(w, h) {
    const ends = [...this.tracks.values()].map(track => track.at(-1));
    const span = i => [Math.min(...ends.map(p => p[i])), Math.max(...ends.map(p => p[i]))];
    const [x0, x1] = span(0), [y0, y1] = span(1);
    this.middle = [(x0 + x1) / 2, (y0 + y1) / 2];
    this.scale = Math.min(w / Math.max(x1 - x0, 300), h / Math.max(y1 - y0, 300)) * 0.72;
  }

  draw() {
    cancelAnimationFrame(this.due);
    this.due = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    const { canvas, pen } = this, ratio = devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
    const css = getComputedStyle(canvas), colour = name => css.getPropertyValue(name);
    canvas.width = w * ratio;
    canvas.height = h * ratio;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.font = `13px ${css.fontFamily}`;
    pen.fillStyle = colour("--dim");
    if (!this.tracks.size) {
      pen.textAlign = "center";
      pen.fillText("No device has told its position yet", w / 2, h / 2);
      return;
    }
    if (this.follow) this.#fit(w, h);
    const at = p => [w / 2 + (p[0] - this.middle[0]) * this.scale, h / 2 - (p[1] - this.middle[1]) * this.scale];
    this.#grid(w, h, colour);
    const names = [];
    for (const [device, track] of this.tracks) {
      const mark = this.marked.get(device), ink = colour(mark ? `--${mark}` : "--ink"), [x, y] = at(track.at(-1));
      pen.strokeStyle = pen.fillStyle = ink;
      pen.globalAlpha = 0.45;
      pen.lineWidth = 2;
      pen.beginPath();
      for (const p of track) pen.lineTo(...at(p));
      pen.stroke();
      pen.globalAlpha = 0.12;
      disc(pen, x, y, track.at(-1)[2] * this.scale);
      pen.fill();
      pen.globalAlpha = 1;
      disc(pen, x, y, mark ? 7 : 5);
      pen.fill();
      if (mark || device === this.chosen) {
        disc(pen, x, y, 12);
        pen.stroke();
      }
      names.push([device + ({ talks: "  talks", alarm: "  emergency" }[mark] ?? ""), ink, x, y, mark]);
    }
    // Over the tracks, who talks over all, and not over a neighbour.
    for (const [text, ink, x, y] of names.sort((a, b) => Boolean(a[4]) - Boolean(b[4]))) {
      const crowded = names.some(other => other[2] > x && other[2] < x + NAME && Math.abs(other[3] - y) < 12);
      pen.textAlign = crowded ? "right" : "left";
      const from = x + (crowded ? -16 : 16);
      pen.strokeStyle = colour("--ground");
      pen.lineWidth = 4;
      pen.strokeText(text, from, y + 4);
      pen.fillStyle = ink;
      pen.fillText(text, from, y + 4);
    }
  }

  #grid(w, h, colour) {
    const { pen } = this, metres = 110 / this.scale, power = 10 ** Math.floor(Math.log10(metres));
    const step = [5, 2, 1].find(n => n * power <= metres) * power, size = step * this.scale;
    const first = (middle, half, sign) => (half + sign * (Math.ceil(middle / step) * step - middle) * this.scale) % size;
    pen.strokeStyle = colour("--line");
    pen.lineWidth = 1;
    pen.beginPath();
    for (let x = first(this.middle[0], w / 2, 1); x < w; x += size) { pen.moveTo(x, 0); pen.lineTo(x, h); }
    for (let y = first(this.middle[1], h / 2, -1); y < h; y += size) { pen.moveTo(0, y); pen.lineTo(w, y); }
    pen.stroke();
    pen.fillRect(14, h - 14, size, 3);
    pen.textAlign = "left";
    pen.fillText(step >= 1000 ? `${step / 1000} km` : `${step} m`, 14, h - 20);
    pen.textAlign = "center";
    pen.fillText("N", w - 20, 40);
    pen.beginPath();
    pen.moveTo(w - 20, 10);
    pen.lineTo(w - 14, 27);
    pen.lineTo(w - 20, 23);
    pen.lineTo(w - 26, 27);
    pen.fill();
  }
}
