// Ambient listening: the dialog that asks for a reason, and the state of each device until its microphone is closed.
import { $, setText } from "./dom.js";

export class ListenIn {
  /**
   * request(name, args): resolves to null if the hub refuses; alerts: Alerts; groups: GroupTable; leave(group): stops
   * listening to a group.
   */
  constructor(request, alerts, groups, leave) {
    Object.assign(this, { request, alerts, groups, leave });
    this.sessions = new Map();  // private group: { device, reason, command, open }
  }

  /** Ask for a reason, then request the device's microphone. */
  start(device) {
    const dialog = $("listen-in");
    setText($("listen-in-text"), `Open the microphone of ${device}? The indicator of the device is switched on. `
      + "Name, time and reason are logged at the hub and on the device.");
    $("listen-in-reason").value = dialog.returnValue = "";
    dialog.showModal();
    dialog.onclose = () => dialog.returnValue === "yes" && this.#request(device, $("listen-in-reason").value.trim());
  }

  async #request(device, reason) {
    const command = await this.request("listen_in", { device, reason });
    if (command === null) return;
    const group = await this.request("private", { device });
    this.groups.setListening(group, true);  // the hub listens already
    this.sessions.set(group, { device, reason, command, open: false });
    this.#show(group);
  }

  /** Handle the floor of a group: the device opens its microphone, or closes it. */
  onFloor({ group, talker }) {
    const session = this.sessions.get(group);
    if (!session) return;
    if (talker === session.device) {
      session.open = true;
      this.#show(group);
    } else if (session.open) this.#remove(group);
  }

  /** Handle a device's answer to a command. */
  onAnswer({ command_id, result }) {
    const [group] = [...this.sessions].find(([, { command }]) => command === command_id) ?? [];
    if (group && result !== "done" && result !== "started") this.#remove(group);
  }

  #show(group) {
    const { device, reason, open } = this.sessions.get(group);
    this.alerts.showListenIn(device, reason, open, () => { this.#remove(group); this.leave(group); });
  }

  #remove(group) {
    this.alerts.hideListenIn(this.sessions.get(group).device);
    this.sessions.delete(group);
  }
}
