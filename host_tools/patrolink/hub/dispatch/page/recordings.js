// Recorded bursts, newest first, and their replay.
import { $, el, length } from "./dom.js";

const MOST = 200;

export class Recordings {
  constructor() {
    this.all = [];
    this.body = $("recordings").querySelector("tbody");
    this.player = $("replay");
    this.player.onended = this.player.onpause = () => this.#mark(null);
    $("of").onchange = () => this.#draw();
  }

  /** Have these, newest first. */
  take(rows) {
    this.all = rows;
    this.#draw();
  }

  /** One more. */
  add(row) {
    this.all = [row, ...this.all].slice(0, MOST);
    this.#draw();
  }

  /** Have these groups to choose from. */
  groups(groups) {
    const before = $("of").value;
    $("of").replaceChildren(el("option", { value: "", textContent: "all groups" }),
      ...groups.map(({ group, name }) => el("option", { value: group, textContent: name })));
    $("of").value = groups.some(({ group }) => String(group) === before) ? before : "";
  }

  /** Play one. */
  play(id) {
    this.player.src = `/recordings/${encodeURIComponent(id)}`;
    this.player.play().catch(() => {});
    this.#mark(id);
  }

  /** Play the last one of a group. */
  last(group) {
    const row = this.all.find(one => one.group === group);
    if (row) this.play(row.id);
  }

  stop() {
    this.player.pause();
  }

  #mark(id) {
    for (const tr of this.body.children) tr.dataset.playing = tr.dataset.id === id ? "yes" : "";
  }

  #draw() {
    const of = $("of").value, focused = document.activeElement?.closest?.("tr")?.dataset.id;
    this.body.replaceChildren(...this.all.filter(row => !of || String(row.group) === of).map(row => {
      const at = new Date(row.start), button = el("button", { textContent: "▶", title: "Replay", onclick: () => this.play(row.id) });
      button.setAttribute("aria-label", `Replay ${row.talker} in ${row.group_name}`);
      const who = el("td", { title: `${row.talker} in ${row.group_name}` }, row.talker, el("small", { className: "under", textContent: row.group_name }));
      if (row.emergency) who.prepend(el("b", { className: "bad", textContent: "▲ " }));
      return el("tr", { data: { id: row.id } }, el("td", { className: "at", title: row.start }, at.toLocaleTimeString("en-GB")), who,
        el("td", { className: "num long" }, length(row.duration_ms),
          el("small", { className: "under", title: "packets", textContent: row.lost ? `${row.lost} lost` : "" })),
        el("td", { className: "do" }, button));
    }));
    if (focused) this.body.querySelector(`tr[data-id="${CSS.escape(focused)}"] button`)?.focus();
  }
}
