// The dispatchers' console: puts login, hub, sound and panels together.
import { Alerts } from "./alerts.js";
import { Clips } from "./clips.js";
import { Devices } from "./devices.js";
import { $, el, say } from "./dom.js";
import { Groups } from "./groups.js";
import { Link, session } from "./link.js";
import { Live } from "./live.js";
import { Plan } from "./map.js";
import { Recordings } from "./recordings.js";
import { Sound } from "./sound.js";
import { Key } from "./talk.js";

const FEW = 8;  // groups that a new dispatcher listens to without having chosen
const FULL = 0.3;  // RMS of a loud voice

const sound = new Sound({
  level: (group, report) => groups.heard(group, report),
  mic: level => { $("mic").value = key.press ? Math.sqrt(level / FULL) : 0; },
  changed: showSound,
});
const link = new Link({
  told,
  voice: (group, ssrc, stamp, alaw) => sound.hear(group, ssrc, stamp, alaw),
  sight: (view, jpeg) => live.show(view, jpeg),
  state: showLink,
});
const groups = new Groups({ listen, end: group => ask("end_group", { group }), chosen: () => key.press || key.show("") });
const key = new Key(link, sound, groups);
const plan = new Plan($("plan").querySelector("canvas"));
const alerts = new Alerts({ alarm: () => sound.tone("emergency"), show: device => plan.show(device), select: group => groups.select(group),
  answer: (device, event_id, state) => ask("answer_event", { device, event_id, state }) });
const recordings = new Recordings();
const clips = new Clips({ command: (device, action) => ask("command", { device, action }), preserve: (device, clip) => ask("preserve_clip", { device, clip }) });
const live = new Live({ start: (device, seconds) => ask("live_start", { device, seconds }), stop: device => ask("live_stop", { device }),
  note: (device, text) => devices.note(device, text) });
const ears = new Map();  // private groups that we listen in to
let devices = null;
let name = "";

// --- what the hub tells ---------------------------------------------------------------------------------------------

function told(message) {
  const handler = {
    hello, floor: takeFloor, group: takeGroup, answer,
    counts: counts => groups.counts(counts),
    gone: ({ group }) => { groups.drop(group); sound.drop(group); groups.listening.delete(group); people(); },
    position: fix => { plan.take(fix); devices.fix(fix); },
    event: row => alerts.event(row),
    recording: row => recordings.add(row),
    clip: row => clips.change(row),
    "clip gone": row => clips.drop(row),
    signer: ({ device }) => alerts.signer(device),
    live: row => live.take(row),
    lost: ({ count }) => tell(`This page was too slow: ${count} packets or messages are missing`),
  }[message.type];
  if (handler) handler(message);
  else key.told(message);
}

function hello(it) {
  name = it.name;
  say($("site"), it.site);
  say($("who"), it.name);
  devices ??= new Devices({
    call, locate, make, listenIn: it.ambient ? listenIn : null, show: device => plan.show(device),
    watch: it.live ? device => live.watch(device) : null,
  });
  const listened = remembered() ?? it.groups.filter(group => group.kind === "standing").slice(0, FEW).map(group => group.group);
  groups.clear();
  groups.listening.clear();
  groups.take(...it.groups);
  it.groups.forEach(calls);
  mark();
  for (const number of listened) if (groups.get(number)) listen(number, true);
  people();
  for (const fix of it.positions) {
    plan.take(fix);
    devices.fix(fix);
  }
  alerts.clear();
  it.alarms.forEach(row => alerts.event(row));
  recordings.take(it.recordings);
  link.ask("clips").then(rows => clips.take(rows), e => clips.take(null, e.message));
  live.begin(it.live ?? []);
  if (!groups.get(groups.selected) && it.groups.length) groups.step(1);
}

function takeFloor(group) {
  groups.take(group);
  calls(group);
  mark();
  const ear = ears.get(group.group);
  if (!ear) return;
  if (group.talker === ear.device) {
    ear.open = true;
    showEar(group.group);
  } else if (ear.open) stopEar(group.group);
}

/** An emergency call is shown, and heard whether or not somebody chose to. */
function calls(group) {
  if (group.emergency && group.state !== "idle" && !groups.listening.has(group.group)) listen(group.group, true);
  alerts.floor(group.talker === name ? { ...group, emergency: false } : group);
}

/** Show on the map who talks. */
function mark() {
  plan.marked.clear();
  for (const { talker, state, emergency } of groups.all) if (state !== "idle") plan.marked.set(talker, emergency ? "alarm" : "talks");
  plan.draw();
}

function answer(row) {
  tell(`${row.device}: ${row.result}${row.text ? `, ${row.text}` : ""}`);
  const [group] = [...ears].find(([, ear]) => ear.command === row.command_id) ?? [];
  if (group && row.result !== "done" && row.result !== "started") stopEar(group);
}

function takeGroup(group) {
  takeFloor(group);
  people();
}

function people() {
  const names = new Set(groups.all.flatMap(group => group.members));
  devices.take(names);
  clips.devices(names);
  recordings.groups(groups.all.filter(group => group.kind !== "private"));
}

// --- what a person does ---------------------------------------------------------------------------------------------

function tell(text) {
  say($("told"), text);
}

function ask(request, args) {
  return link.ask(request, args).catch(e => { tell(e.message); return null; });
}

function remembered() {
  return JSON.parse(localStorage.getItem(`listen ${name}`));
}

function listen(group, on) {
  groups.listens(group, on);
  ask(on ? "listen" : "leave", { group });
  if (!on) sound.drop(group);
  localStorage.setItem(`listen ${name}`, JSON.stringify([...groups.listening]));
}

async function call(device) {
  const group = await ask("private", { device });
  if (group === null) return;
  listen(group, true);
  groups.select(group);
  tell(`Private call to ${device}: hold to talk`);
}

function locate(device) {
  plan.show(device);
  ask("command", { device, action: "locate" });
}

async function make(title, members) {
  const group = await ask("make_group", { name: title, devices: members });
  if (group === null) return;
  devices.unpick();
  listen(group, true);
  groups.select(group);
}

function listenIn(device) {
  const dialog = $("ask");
  say($("ask-text"), `Open the microphone of ${device}? Its indicator lights. Who listens, when and why is written down on both sides.`);
  $("ask-reason").value = dialog.returnValue = "";
  dialog.showModal();
  dialog.onclose = async () => {
    const reason = $("ask-reason").value.trim();
    if (dialog.returnValue !== "yes") return;
    const command = await ask("listen_in", { device, reason });
    if (command === null) return;
    const group = await ask("private", { device });
    groups.listens(group, true);
    ears.set(group, { device, reason, command, open: false });
    showEar(group);
  };
}

function showEar(group) {
  const { device, reason, open } = ears.get(group);
  alerts.listening(device, reason, open, () => { stopEar(group); listen(group, false); });
}

function stopEar(group) {
  alerts.listenedIn(ears.get(group).device);
  ears.delete(group);
}

// --- keys -----------------------------------------------------------------------------------------------------------

const writes = target => target.closest?.("input:not([type=radio], [type=checkbox]), select, dialog");
const KEYS = {
  " ": () => key.down(groups.selected),
  ArrowUp: () => groups.step(-1), ArrowDown: () => groups.step(1),
  l: () => groups.get(groups.selected) && listen(groups.selected, !groups.listening.has(groups.selected)),
  r: () => recordings.last(groups.selected),
  e: () => alerts.first(),
  Escape: () => { document.querySelector("[name=call][value=normal]").checked = true; key.press || key.show(""); recordings.stop(); },
};

addEventListener("keydown", e => {
  sound.start();
  const does = KEYS[e.key.length === 1 ? e.key.toLowerCase() : e.key];
  if (!does || e.ctrlKey || e.altKey || e.metaKey || $("console").hidden || writes(e.target) || e.target.closest?.("canvas, [type=radio]")
    && e.key.startsWith("Arrow")) return;
  e.preventDefault();
  if (!e.repeat || e.key.startsWith("Arrow")) does();
});
// A key that came up elsewhere must not leave us talking.
addEventListener("keyup", e => {
  if (e.key !== " ") return;
  key.up();
  if (!writes(e.target)) e.preventDefault();
});
for (const end of ["pointerup", "pointercancel", "blur", "pagehide"]) addEventListener(end, () => key.up());
addEventListener("visibilitychange", () => document.hidden && key.up());
addEventListener("pointerdown", e => {
  sound.start();
  const button = e.target.closest?.(".hold, #key");
  if (!button || e.button !== 0) return;
  if (button.dataset.group) groups.select(Number(button.dataset.group));
  key.down(groups.selected);
});
addEventListener("contextmenu", e => e.target.closest?.(".hold, #key") && e.preventDefault());
for (const radio of document.querySelectorAll("[name=call]")) radio.onchange = () => key.press || key.show("");
$("fit").onclick = () => plan.fit();
setInterval(() => say($("clock"), new Date().toLocaleTimeString("en-GB")), 250);

// --- login ----------------------------------------------------------------------------------------------------------

function showLink(state) {
  say($("link"), { up: "● hub connected", down: "▲ hub not reachable, trying again" }[state] ?? "");
  $("link").className = state === "up" ? "" : "bad";
  if (state !== "up") key.lost();
  if (state === "refused") showLogin("The session is over: log in again");
}

function showSound() {
  const off = sound.context?.state !== "running";
  say($("sound"), sound.problem || (off ? "▲ click anywhere for sound" : sound.micOpen ? "● sound and microphone" : "● sound"));
  $("sound").className = sound.problem || off ? "bad" : "";
}

function showLogin(why) {
  $("console").hidden = true;
  $("login").hidden = false;
  say($("login-error"), why);
  $("token").focus();
}

function showConsole() {
  $("login").hidden = true;
  $("console").hidden = false;
  showSound();
  link.open();
}

$("login").onsubmit = async e => {
  e.preventDefault();
  sound.start();
  const answer = await fetch("/login", { method: "POST", body: JSON.stringify({ token: $("token").value }),
    headers: { "Content-Type": "application/json" } }).catch(() => null);
  $("token").value = "";
  if (answer?.ok) showConsole();
  else showLogin(answer ? await answer.text() : "The hub cannot be reached");
};
$("logout").onclick = () => fetch("/logout", { method: "POST" });

await session() ? showConsole() : showLogin("");
