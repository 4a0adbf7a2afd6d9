// The dispatchers' console: creates the parts of the page and connects them to the hub.
import { Alerts } from "./alerts.js";
import { AudioEngine } from "./audio.js";
import { ClipList } from "./clips.js";
import { HubConnection, loggedInName } from "./connection.js";
import { Controls } from "./controls.js";
import { DeviceList } from "./devices.js";
import { $, formatTime, setText } from "./dom.js";
import { GroupTable } from "./groups.js";
import { ListenIn } from "./listenin.js";
import { LiveViews } from "./liveview.js";
import { Login } from "./login.js";
import { DeviceMap } from "./map.js";
import { PushToTalk } from "./ptt.js";
import { RecordingList } from "./recordings.js";
import { UpdateTable } from "./updates.js";

const DEFAULT_GROUPS = 8;  // standing groups that a new dispatcher listens to
const FULL_SCALE_RMS = 0.3;  // of a loud voice
const CONNECTION_LABELS = { up: "● hub connected", down: "▲ hub not reachable, reconnecting" };

class Console {
  constructor() {
    this.name = "";
    this.devices = null;  // created with the first hello, which tells what this site allows
    this.audio = new AudioEngine({
      onGroupLevel: (group, report) => this.groups.showLevel(group, report),
      onMicrophoneLevel: level => { $("mic").value = this.ptt.active ? Math.sqrt(level / FULL_SCALE_RMS) : 0; },
      onChange: () => this.#showAudioState(),
    });
    this.connection = new HubConnection({
      onMessage: message => this.#onMessage(message),
      onVoice: (group, ssrc, timestamp, alaw) => this.audio.play(group, ssrc, timestamp, alaw),
      onLiveFrame: (view, jpeg) => this.live.showPicture(view, jpeg),
      onState: state => this.#onConnectionState(state),
    });
    this.groups = new GroupTable({
      onListen: (group, on) => this.#setListening(group, on),
      onEnd: group => this.#request("end_group", { group }),
      onSelect: () => this.ptt.showIdle(),
    });
    this.ptt = new PushToTalk(this.connection, this.audio, this.groups);
    this.map = new DeviceMap($("map").querySelector("canvas"));
    this.recordings = new RecordingList();
    this.updates = new UpdateTable();
    this.alerts = new Alerts({
      onAlarm: () => this.audio.playTone("emergency"),
      showOnMap: device => this.map.show(device),
      selectGroup: group => this.groups.select(group),
      answerEvent: (device, event_id, state) => this.#request("answer_event", { device, event_id, state }),
    });
    this.clips = new ClipList({
      sendCommand: (device, action) => this.#request("command", { device, action }),
      preserve: (device, clip) => this.#request("preserve_clip", { device, clip }),
    });
    this.live = new LiveViews({
      start: (device, seconds) => this.#request("live_start", { device, seconds }),
      stop: device => this.#request("live_stop", { device }),
      setNote: (device, text) => this.devices?.setNote(device, text),
    });
    this.listenIn = new ListenIn((name, args) => this.#request(name, args), this.alerts, this.groups,
      group => this.#setListening(group, false));
    this.login = new Login({ onUserAction: () => this.audio.start(), onLogin: () => this.#open() });
    new Controls(this.ptt, this.groups, this.#shortcuts(), () => this.audio.start());
    for (const radio of document.querySelectorAll("[name=call]")) radio.onchange = () => this.ptt.showIdle();
    $("show-all").onclick = () => this.map.showAll();
    setInterval(() => setText($("clock"), formatTime(new Date())), 250);
  }

  async start() {
    if (await loggedInName()) this.#open();
    else this.login.show("");
  }

  #open() {
    this.login.hide();
    this.#showAudioState();
    this.connection.open();
  }

  #shortcuts() {
    const { groups } = this;
    return {
      ArrowUp: () => groups.selectRelative(-1),
      ArrowDown: () => groups.selectRelative(1),
      l: () => {
        const { selected, listening } = groups;
        if (groups.get(selected)) this.#setListening(selected, !listening.has(selected));
      },
      r: () => this.recordings.playNewest(groups.selected),
      e: () => this.alerts.openFirst(),
      Escape: () => {
        document.querySelector("[name=call][value=normal]").checked = true;
        this.ptt.showIdle();
        this.recordings.stop();
      },
    };
  }

  // --- messages of the hub ------------------------------------------------------------------------------------------

  #onMessage(message) {
    const handlers = {
      hello: hello => this.#onHello(hello),
      floor: group => this.#onFloor(group),
      group: group => { this.#onFloor(group); this.#updateNames(); },
      gone: ({ group }) => this.#onGroupEnded(group),
      counts: ({ groups }) => groups.forEach(counts => this.groups.updateCounts(counts)),
      position: position => this.#onPosition(position),
      event: row => this.alerts.updateEvent(row),
      answer: row => this.#onAnswer(row),
      recording: row => this.recordings.add(row),
      clip: row => this.clips.update(row),
      "clip gone": row => this.clips.remove(row),
      signer: ({ device }) => this.alerts.showNewSigner(device),
      notice: row => this.alerts.showNotice(row),
      barred: message => this.#onBarred(message),
      warning: message => this.alerts.showWarning(message),
      live: row => this.live.update(row),
      campaign: row => this.updates.updateCampaign(row),
      update: row => this.updates.updateDevice(row),
      lost: ({ count }) => this.#showMessage(`This page was too slow: ${count} messages were lost`),
    };
    const handler = handlers[message.type];
    if (handler) handler(message);
    else this.ptt.onMessage(message);
  }

  #onHello(hello) {
    this.name = hello.name;
    setText($("site"), hello.site);
    setText($("dispatcher"), hello.name);
    this.devices ??= new DeviceList({
      call: device => this.#call(device), locate: device => this.#locate(device),
      createGroup: (name, devices) => this.#createGroup(name, devices),
      listenIn: hello.ambient ? device => this.listenIn.start(device) : null,
      watch: hello.live ? device => this.live.watch(device) : null,
    });
    const standing = hello.groups.filter(group => group.kind === "standing").map(group => group.group);
    const listening = this.#savedListening() ?? standing.slice(0, DEFAULT_GROUPS);
    this.groups.clear();
    this.groups.update(...hello.groups);
    hello.groups.forEach(group => this.#showEmergency(group));
    this.#updateTalkers();
    for (const group of listening) if (this.groups.get(group)) this.#setListening(group, true);
    this.#updateNames();
    hello.positions.forEach(position => this.#onPosition(position));
    this.alerts.clearEvents();
    hello.alarms.forEach(row => this.alerts.updateEvent(row));
    this.recordings.setRows(hello.recordings);
    this.connection.request("clips").then(rows => this.clips.setRows(rows), e => this.clips.setRows(null, e.message));
    this.#request("updates").then(rows => this.updates.setRows(rows));
    this.live.reset(hello.live ?? []);
    if (!this.groups.get(this.groups.selected) && hello.groups.length) this.groups.selectRelative(1);
  }

  #onFloor(group) {
    this.groups.update(group);
    this.#showEmergency(group);
    this.#updateTalkers();
    this.listenIn.onFloor(group);
  }

  /** An emergency call is shown, and played even if the dispatcher does not listen to the group. */
  #showEmergency(group) {
    const active = group.emergency && group.state !== "idle";
    if (active && !this.groups.listening.has(group.group)) this.#setListening(group.group, true);
    this.alerts.updateFloor(group.talker === this.name ? { ...group, emergency: false } : group);
  }

  #updateTalkers() {
    const taken = this.groups.all.filter(group => group.state !== "idle");
    this.map.setTalkers(new Map(taken.map(({ talker, emergency }) => [talker, emergency ? "emergency" : "taken"])));
  }

  #onGroupEnded(group) {
    this.groups.remove(group);
    this.audio.stopPlaying(group);
    this.#updateNames();
  }

  #onPosition(position) {
    this.map.addPosition(position);
    this.devices.updatePosition(position);
  }

  #onBarred({ device, barred, who, reason }) {
    this.#showMessage(`${device} was ${barred ? "barred" : "admitted again"} by ${who}: ${reason}`);
  }

  #onAnswer(row) {
    this.#showMessage(`${row.device}: ${row.result}${row.text ? `, ${row.text}` : ""}`);
    this.listenIn.onAnswer(row);
  }

  /** Update the lists of devices and groups from the groups. */
  #updateNames() {
    const devices = new Set(this.groups.all.flatMap(group => group.members));
    this.devices.setDevices(devices);
    this.clips.setDevices(devices);
    this.recordings.setGroups(this.groups.all.filter(group => group.kind !== "private"));
  }

  // --- actions of the dispatcher -------------------------------------------------------------------------------------

  #showMessage(text) {
    setText($("message"), text);
  }

  /** Send a request. Resolves to null, and shows the reason, if the hub refuses. */
  #request(name, args) {
    return this.connection.request(name, args).catch(e => { this.#showMessage(e.message); return null; });
  }

  #savedListening() {
    return JSON.parse(localStorage.getItem(`listen ${this.name}`));
  }

  #setListening(group, on) {
    this.groups.setListening(group, on);
    this.#request(on ? "listen" : "leave", { group });
    if (!on) this.audio.stopPlaying(group);
    localStorage.setItem(`listen ${this.name}`, JSON.stringify([...this.groups.listening]));
  }

  async #call(device) {
    const group = await this.#request("private", { device });
    if (group === null) return;
    this.#setListening(group, true);
    this.groups.select(group);
    this.#showMessage(`Private call to ${device}: hold to talk`);
  }

  #locate(device) {
    this.map.show(device);
    this.#request("command", { device, action: "locate" });
  }

  async #createGroup(name, devices) {
    const group = await this.#request("make_group", { name, devices });
    if (group === null) return;
    this.devices.uncheckAll();
    this.#setListening(group, true);
    this.groups.select(group);
  }

  // --- states ------------------------------------------------------------------------------------------------------

  #onConnectionState(state) {
    setText($("link"), CONNECTION_LABELS[state] ?? "");
    $("link").className = state === "up" ? "" : "bad";
    if (state !== "up") this.ptt.onDisconnect();
    if (state === "refused") this.login.show("The session has ended: log in again");
  }

  #showAudioState() {
    const { running, problem, microphoneOpen } = this.audio;
    const state = !running ? "▲ click anywhere for sound" : microphoneOpen ? "● sound and microphone" : "● sound";
    setText($("sound"), problem || state);
    $("sound").className = problem || !running ? "bad" : "";
  }
}

new Console().start();
