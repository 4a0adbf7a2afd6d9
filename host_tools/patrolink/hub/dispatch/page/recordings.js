// List of recorded bursts, newest first, and their replay.
import { $, button, el, formatDuration, formatTime } from "./dom.js";

const MAX_ROWS = 200;

export class RecordingList {
  constructor() {
    this.rows = [];
    this.body = $("recordings").querySelector("tbody");
    this.player = $("replay");
    this.player.onended = this.player.onpause = () => this.#markPlaying(null);
    $("recordings-group").onchange = () => this.#render();
  }

  /** Show these recordings, newest first. */
  setRows(rows) {
    this.rows = rows;
    this.#render();
  }

  /** Add the newest recording. */
  add(row) {
    this.rows = [row, ...this.rows].slice(0, MAX_ROWS);
    this.#render();
  }

  /** Set the groups that can be selected. */
  setGroups(groups) {
    const selected = $("recordings-group").value;
    $("recordings-group").replaceChildren(el("option", { value: "", textContent: "all groups" }),
      ...groups.map(({ group, name }) => el("option", { value: group, textContent: name })));
    $("recordings-group").value = groups.some(({ group }) => String(group) === selected) ? selected : "";
  }

  /** Replay a recording. */
  play(id) {
    this.player.src = `/recordings/${encodeURIComponent(id)}`;
    this.player.play().catch(() => {});
    this.#markPlaying(id);
  }

  /** Replay the newest recording of a group. */
  playNewest(group) {
    const row = this.rows.find(recording => recording.group === group);
    if (row) this.play(row.id);
  }

  stop() {
    this.player.pause();
  }

  #markPlaying(id) {
    for (const tr of this.body.children) tr.dataset.playing = tr.dataset.id === id ? "yes" : "";
  }

  #render() {
    const group = $("recordings-group").value, focused = document.activeElement?.closest?.("tr")?.dataset.id;
    const shown = this.rows.filter(row => !group || String(row.group) === group);
    this.body.replaceChildren(...shown.map(row => this.#tr(row)));
    if (focused) this.body.querySelector(`tr[data-id="${CSS.escape(focused)}"] button`)?.focus();
  }

  #tr(row) {
    const replay = button("▶", () => this.play(row.id), { title: "Replay" });
    replay.setAttribute("aria-label", `Replay ${row.talker} in ${row.group_name}`);
    const talker = el("td", { title: `${row.talker} in ${row.group_name}` },
      row.talker, el("small", { className: "under", textContent: row.group_name }));
    if (row.emergency) talker.prepend(el("b", { className: "bad", textContent: "▲ " }));
    const textContent = row.lost ? `${row.lost} lost` : "";
    const lost = el("small", { className: "under", title: "lost packets", textContent });
    return el("tr", { data: { id: row.id } },
      el("td", { className: "time", title: row.start }, formatTime(new Date(row.start))), talker,
      el("td", { className: "num duration" }, formatDuration(row.duration_ms), lost),
      el("td", { className: "actions" }, replay));
  }
}
