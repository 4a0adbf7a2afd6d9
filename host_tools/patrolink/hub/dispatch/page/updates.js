// Update campaigns: a line for each with its counts, and a table of its devices, those that need attention first.
import { $, el, setText } from "./dom.js";

const MAX_CAMPAIGNS = 5;
const MAX_ROWS = 500;
const LABELS = {
  failed: "▲ failed", deferred: "◌ deferred", installed: "↻ restarts", fetching: "↓ fetching", offered: "→ offered",
  planned: "planned", cancelled: "■ cancelled", skipped: "skipped", confirmed: "● confirmed",
};
const ORDER = Object.keys(LABELS);
const rank = row => ORDER.indexOf(row.update_state);

export class UpdateTable {
  constructor() {
    this.campaigns = new Map();  // name: { row of the campaign, rows of its devices by id, details element }
    this.isScheduled = false;
  }

  /** Show these campaigns, newest first. `rows` is null if this hub has none. */
  setRows(rows) {
    const shown = (rows ?? []).filter(row => row.campaign_state !== "planned").slice(0, MAX_CAMPAIGNS);
    this.campaigns = new Map(shown.map(row => {
      const devices = new Map(row.targets.map(target => [target.device, target]));
      return [row.campaign, { row, devices, details: this.campaigns.get(row.campaign)?.details ?? this.#create(row) }];
    }));
    this.#schedule();
  }

  /** Update the counts of a campaign. */
  updateCampaign(row) {
    const entry = this.campaigns.get(row.campaign) ?? { devices: new Map(), details: this.#create(row) };
    this.campaigns.set(row.campaign, { ...entry, row });
    this.#schedule();
  }

  /** Update a device of a campaign; its campaign follows. */
  updateDevice(target) {
    const row = { campaign: target.campaign };
    const entry = this.campaigns.get(target.campaign) ?? { row, devices: new Map(), details: this.#create(row) };
    entry.devices.set(target.device, target);
    this.campaigns.set(target.campaign, entry);
    this.#schedule();
  }

  #create({ campaign }) {
    return el("details", { data: { campaign } }, el("summary"), el("div", { className: "scroll" },
      el("table", {}, el("tbody"))));
  }

  /** Messages about many devices arrive at once: the page is rendered once for all of them. */
  #schedule() {
    if (this.isScheduled) return;
    this.isScheduled = true;
    setTimeout(() => { this.isScheduled = false; this.#render(); }, 50);
  }

  #render() {
    const entries = [...this.campaigns.values()].filter(({ row }) => row.update_states);
    $("updates").hidden = !entries.length;
    $("updates").replaceChildren(...entries.map(({ details }) => details));
    for (const { row, devices, details } of entries) {
      const counts = ORDER.filter(state => row.update_states[state]).map(state => `${row.update_states[state]} ${state}`);
      const [summary] = details.children;
      setText(summary, `Update ${row.firmware_version}, ${row.campaign}: ${row.campaign_state}, ${counts.join(", ")}`);
      summary.title = row.campaign_reason;
      summary.classList.toggle("bad", row.campaign_state === "stopped");
      const sorted = [...devices.values()].sort((a, b) => rank(a) - rank(b) || a.device.localeCompare(b.device));
      details.querySelector("tbody").replaceChildren(...sorted.slice(0, MAX_ROWS).map(target => this.#tr(target)));
    }
  }

  #tr({ device, update_state, update_reason }) {
    const className = update_state === "failed" ? "bad" : "";
    const state = el("span", { className, textContent: LABELS[update_state] ?? update_state });
    const reason = el("small", { className: "under", textContent: update_reason });
    return el("tr", { data: { device, state: update_state } },
      el("td", { title: device, textContent: device }), el("td", { title: update_reason }, state, reason));
  }
}
