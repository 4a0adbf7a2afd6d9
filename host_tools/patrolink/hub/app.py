"""A hub: groups, relay, broker, recorder and dispatchers put together, and its run."""

import asyncio
import contextlib
import gc
import hmac
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from patrolink_messages import CLIP_STATE, EVENT_STATE, PTT_GROUP

from patrolink.core import signals
from patrolink.core.capture import Record
from patrolink.core.clock import SystemClock, monotonic_ms, unix_ms
from patrolink.core.decoder import Decoder, Row
from patrolink.core.keys import DeviceKey
from patrolink.hub.clips.clip_service import ClipService
from patrolink.hub.config import Dispatcher, HubContext, token_hash
from patrolink.hub.dispatch import console
from patrolink.hub.dispatch.commands import Commands
from patrolink.hub.dispatch.dispatcher_audio import DispatcherAudio
from patrolink.hub.dispatch.session import DispatcherSession
from patrolink.hub.incidents.alarms import Alarms, event_state
from patrolink.hub.infra import http_server, persistence
from patrolink.hub.infra.audit import AuditLog
from patrolink.hub.infra.broker import Broker
from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.live.sessions import LiveSessions
from patrolink.hub.voice.floor import Floor
from patrolink.hub.voice.floor_trace import Trace
from patrolink.hub.voice.floor_types import FloorEvent, FloorEventKind
from patrolink.hub.voice.groups import Device, Group, GroupRegistry
from patrolink.hub.voice.recorder import Recorder
from patrolink.hub.voice.relay import Voice, VoiceRelay

_TELL_AGAIN_MS = 60_000  # terms, to a device that does not show itself on the floor socket; doubled
_TELL_AT_MOST_MS = 3_600_000
_KEEP_S = 3  # between two times that addresses are written
_PURGE_S = 3600
_VOICES = 8  # bursts of a group that are remembered


class Hub:
    """
    trace  is given the plain floor messages; None: nothing

    What dispatchers may do is in desk.py. Everything runs on one event loop.
    """

    def __init__(self, place: HubContext, trace: Trace | None = None) -> None:
        self.place = place
        self.metrics = Metrics()
        self.roster = GroupRegistry(place, self._say, self._on_floor, monotonic_ms)
        self.roster.on_terms = self._tell_terms
        self.recorder = Recorder(place.recordings, place.site.retention_days, self.metrics)
        self.recorder.recorded = lambda row: self._tell_desks({"type": "recording", **row})
        self.relay = VoiceRelay(self.roster, place.hub, self.metrics, trace)
        self.relay.heard, self.relay.found = self._heard, self._found
        self.floor_of = self.relay.floor_of
        self._decoder = Decoder(place.keys)
        self._positions: dict[str, tuple[Row, int]] = {}  # newest fix, when it came
        self._desks: list[DispatcherSession] = []
        self._tap = DispatcherAudio()
        self._told: dict[str, tuple[int, int]] = {}  # device → when its terms were told, times without a sign of it
        self._unsure: set[str] = set()  # told while they were not to be seen
        self._voices: dict[int, deque[int]] = {}
        self.alarms = Alarms(place.state / "alarms.json")
        log = AuditLog(place.state / "audit.jsonl", self.metrics)
        self.audit, self._note = log.write, log.note
        self.orders = Commands(place, self.roster, self._send, self.audit)
        self.clips: ClipService | None = None
        if place.hub.uploads:
            self.clips = ClipService(
                place.clips,
                place.site.clips_gb << 30,
                place.evidence,
                self._key_of,
                self._tell_clip_state,
                self._tell_desks,
                self._note,
                self.metrics,
                SystemClock(),
            )
        self.live = LiveSessions(
            place.hub, self.metrics, self.roster.devices, self.orders.send, self.audit, self._tell_desks
        )
        self._addresses_path = place.state / "addresses.json"
        self._broker: Broker | None = None
        self._load_addresses()
        self._gauges()

    def _key_of(self, name: str) -> DeviceKey | None:
        device = self.roster.devices.get(name)
        return device.key if device else None

    def _gauges(self) -> None:
        devices, groups = self.roster.devices.values(), self.roster.groups
        self.metrics.gauges.update(
            groups=lambda: len(groups),
            bursts_on=lambda: sum(group.floor.burst is not None for group in groups.values()),
            queued=lambda: sum(len(group.floor.queue) for group in groups.values()),
            devices_present=lambda: sum(device.heard_ms is not None for device in devices),
            dispatchers=lambda: len(self._desks),
        )

    # --- run ----------------------------------------------------------------------------------------------------------

    async def run(self, ready: Callable[[dict[str, Any]], None]) -> None:
        """Serve until SIGINT or SIGTERM; `ready` is told where, once all is up. UserError when something is not."""
        async with contextlib.AsyncExitStack() as stack:
            stop = stack.enter_context(signals.stop_requested())
            stack.callback(self.relay.close)
            stack.callback(self.live.close)
            self._broker = Broker(self.place, self.metrics, self._on_uplink)
            await self._broker.start()
            stack.push_async_callback(self._broker.close)
            stack.push_async_callback(self.recorder.close)
            if self.place.hub.console:
                routes = [web.get("/metrics", self._on_metrics), web.get("/status", self._on_status)]
                stack.push_async_callback((await self._serve_console(routes)).cleanup)
            if self.clips is not None:
                stack.push_async_callback((await self._serve_uploads(self.clips)).cleanup)
            self.relay.start()
            self.live.open()
            gc.collect()
            gc.freeze()  # thousands of devices and keys that stay: a collection would stop the relay to visit them
            jobs = [self._tick(), self._purge(), *([self.clips.verdicts.run()] if self.clips else [])]
            tasks = [asyncio.ensure_future(job) for job in jobs]
            hub = self.place.hub
            told = hub.model_dump(include={"shard", "host", "floor_port", "media_port", "console", "uploads"})
            ready({**told, "groups": len(self.roster.groups), "devices": len(self.roster.devices)})
            ends: list[asyncio.Future[Any]] = [stop, *tasks]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()  # a bug: it shows, and no hub goes on with half of its duties
                task.cancel()
            persistence.save_json(self._addresses_path, self._addresses())

    async def _serve_console(self, routes: list[web.RouteDef]) -> web.AppRunner:
        tls = self.place.console_tls
        pages = console.Console(
            self.place.site, self.dispatcher, self.desk, self.audit, self.clips, tls is not None, SystemClock()
        )
        return await console.serve(pages, self.place.hub.console, tls, routes)

    async def _serve_uploads(self, clips: ClipService) -> web.AppRunner:
        app = web.Application()
        clips.uploads.attach(app)
        return await http_server.start(app, self.place.hub.uploads, self.place.console_tls, "uploads")

    async def _tick(self) -> None:
        while True:
            for _ in range(_KEEP_S):
                await asyncio.sleep(1)
                self.relay.sweep()
                self._tell_counts()
            try:
                await asyncio.to_thread(persistence.save_json, self._addresses_path, self._addresses())
            except OSError:
                self.metrics.counts["storage_failed"] += 1

    async def _purge(self) -> None:
        while True:
            try:
                await self.recorder.purge()
                if self.clips is not None:
                    await self.clips.retention.purge(self.place.site.retention_days)
            except OSError:
                self.metrics.counts["storage_failed"] += 1
            await asyncio.sleep(_PURGE_S)

    # --- where devices are, over restarts -----------------------------------------------------------------------------

    def _load_addresses(self) -> None:
        for name, (floor, media, highest) in (persistence.load_json(self._addresses_path) or {}).items():
            device = self.roster.devices.get(name)
            if device is not None:
                device.floor, device.media = floor and tuple(floor), media and tuple(media)
                device.up.replay_list.reject_up_to(highest)

    def _addresses(self) -> dict[str, Any]:
        return {
            device.name: [device.floor, device.media, device.up.replay_list.highest]
            for device in self.roster.devices.values()
            if device.floor is not None or device.media is not None
        }

    # --- the broker ---------------------------------------------------------------------------------------------------

    def _on_uplink(self, record: Record) -> None:
        """A frame of a device has come."""
        rows = self._decoder.rows(record)
        if self._decoder.reject_reason:
            self.metrics.refused[f"frame {self._decoder.reject_reason}"] += 1
            return
        self.metrics.counts["frames"] += 1
        device = self.roster.devices[record.device]
        for row in rows:
            if row["message"] == "position":
                if row["lat_deg"] is not None:
                    self._positions[device.name] = row, monotonic_ms()
            elif row["message"] in ("event", "answer"):
                self._on_row(device, row)
            elif row["message"] == "clip_manifest" and self.clips is not None:
                self.clips.intake.announce(row)
        if rows and rows[-1]["message"] == "position":
            self._tell_desks({"type": "position", **rows[-1], "age_s": 0})
        anew = self._decoder.epoch(device.name) != device.key.epoch
        if anew:
            self._rekey(device)
        self._consider(device, anew or any(row["message"] == "hello" for row in rows))

    def _rekey(self, device: Device) -> None:
        """Follow a device into its next key epoch; what wraps its groups' keys is another one, too."""
        device.rekey(self._decoder.epoch(device.name))
        self.metrics.counts["key_epochs"] += 1
        if self._broker is not None:
            self._broker.rekey(device.name, device.key)

    def _on_row(self, device: Device, row: Row) -> None:
        if row["message"] == "event":
            row = self.alarms.take(row)
        self._tell_desks({"type": row["message"], **row})
        if row["message"] == "answer":
            self._note(device.name, "answer", command=row["command_id"], result=row["result"], text=row["text"])
            self.live.on_answer(row)
        elif self.alarms.unsaved:
            self.metrics.counts["storage_failed"] += 1  # it is shown; the device, not answered, tells it again
        elif row["ack_wanted"] and self.place.is_home and self._broker is not None:
            self._broker.answer(device.name, row["event_id"])

    def _send(self, device: str, kind: int, values: dict[str, Any]) -> None:
        if self._broker is not None:
            self._broker.send(device, kind, values)

    def _tell_clip_state(self, device: str, values: dict[str, Any]) -> None:
        if device in self.roster.devices:  # a device that left has its clips here still
            self._send(device, CLIP_STATE, values)

    def _consider(self, device: Device, hello: bool) -> None:
        """Tell a device its groups after its hello, when it is new to us, and again while it does not show itself."""
        now = monotonic_ms()
        when, times = self._told.get(device.name, (0, 0))
        wait_ms = min(_TELL_AGAIN_MS << times, _TELL_AT_MOST_MS)
        if hello or device.name not in self._told:
            times = 0
        elif device.heard_ms is not None or now - when < wait_ms:
            return
        else:
            times = min(times + 1, 10)
        self._told[device.name] = now, times
        for values in self.roster.terms(device):
            self._send_terms(device, values)

    def _tell_terms(self, device: Device, group: int) -> None:
        self._send_terms(device, self.roster.term(device, group))

    def _send_terms(self, device: Device, values: dict[str, Any]) -> None:
        if device.heard_ms is None:
            self._unsure.add(device.name)
        self.metrics.counts["terms_told"] += 1
        self._send(device.name, PTT_GROUP, values)

    def _found(self, device: Device) -> None:
        """It shows itself: what it was told meanwhile may not have come."""
        if device.name in self._unsure:
            self._unsure.discard(device.name)
            if device.name in self._told:
                for values in self.roster.terms(device):
                    self._send_terms(device, values)

    def positions(self) -> list[dict[str, Any]]:
        """Return the newest fix of every device that has told one, with its age."""
        now = monotonic_ms()
        return [{**row, "age_s": (now - came) // 1000} for row, came in self._positions.values()]

    # --- floors and voice ---------------------------------------------------------------------------------------------

    def _say(self, device: Device, data: bytes) -> None:
        self.relay.say(device, data)

    def _on_floor(self, group: Group, event: FloorEvent) -> None:
        self.metrics.counts[f"floor_{event.what.value}"] += 1
        if event.what == FloorEventKind.BEGIN:
            assert event.member is not None
            seat = group.seats.get(event.member.name) if event.member.ssrc in self.roster.seats else None
            self.relay.voices[event.ssrc] = Voice(group, event.member, seat, event.ssrc)
            self.recorder.begin(group, event)
            known = self._voices.setdefault(group.number, deque())
            known.append(event.ssrc)
            if len(known) > _VOICES:
                self.relay.voices.pop(known.popleft(), None)
        elif event.what == FloorEventKind.END:
            self.recorder.end(event)
        if self._desks and not group.telling:
            group.telling = True
            asyncio.get_running_loop().call_soon(self._tell_floor, group)

    def _tell_floor(self, group: Group) -> None:
        group.telling = False
        self._tell_desks({"type": "floor", **self.status_of(group)})

    def _tell_counts(self) -> None:
        """How much of what is being said gets here."""
        for group in self.roster.groups.values() if self._desks else ():
            if group.floor.burst is not None:
                self._tell_desks({"type": "counts", "group": group.number, **self._counts_of(group)})

    def _counts_of(self, group: Group) -> dict[str, int]:
        burst = group.floor.burst
        voice = self.relay.voices.get(burst.ssrc) if burst else None
        return {"packets": voice.packets if voice else 0, "lost": voice.lost if voice else 0}

    def status_of(self, group: Group) -> dict[str, Any]:
        """Return a group as consoles see it."""
        return {**group.status(), "now_ms": monotonic_ms(), **self._counts_of(group)}

    def _heard(self, voice: Voice, index: int, key: GroupKey, packet: bytes | memoryview, ns: int) -> None:
        self.recorder.take(voice.ssrc, index, key, packet, ns)
        if voice.group.desks:
            self._tap.take(voice, voice.member.name, index, key, packet)

    def speak(self, ssrc: int, packet: bytes) -> bool:
        """Send a plain RTP packet of a desk that was granted this SSRC; False when it has the floor no more."""
        voice = self.relay.voices.get(ssrc)
        return voice is not None and self.relay.speak(voice, packet)

    # --- dispatchers --------------------------------------------------------------------------------------------------

    def dispatcher(self, token: str) -> Dispatcher | None:
        """Return whose token this is, None when it is nobody's."""
        theirs = token_hash(token)
        found = [one for one in self.place.site.dispatcher if hmac.compare_digest(one.token_sha256, theirs)]
        return found[0] if found else None

    def desk(self, dispatcher: Dispatcher) -> DispatcherSession:
        """Return a new desk of a dispatcher."""
        desk = DispatcherSession(self, dispatcher.name, dispatcher.priority)
        self._desks.append(desk)
        return desk

    def logout(self, desk: DispatcherSession) -> None:
        """A desk is closed."""
        if desk in self._desks:
            self._desks.remove(desk)
            self.live.leave(desk)

    def _tell_desks(self, what: dict[str, Any]) -> None:
        for desk in self._desks:
            desk.put(what)

    def make_group(self, name: str, devices: list[str]) -> int:
        """Make a dynamic group; see Roster."""
        number = self.roster.make_group(name, devices)
        group = self.roster.groups[number]
        for seat in group.seats.values():
            seat.member.present = seat.device.floor is not None and seat.device.heard_ms is not None
        group.changed()
        self.floor_of(group, Floor.start)
        self._tell_desks({"type": "group", **self.status_of(group)})
        return number

    def end_group(self, number: int) -> None:
        """End a dynamic group; see Roster."""
        group = self.roster.end_group(number)
        if group.timer is not None:
            group.timer.cancel()
        for ssrc in self._voices.pop(number, ()):
            self.relay.voices.pop(ssrc, None)
        for desk in list(group.desks):
            desk.leave(number)
        self._tell_desks({"type": "gone", "group": number})

    def answer_event(self, operator: str, device: str, event_id: int, how: str) -> None:
        """Have a dispatcher take or resolve an event: the wearer and all desks are told."""
        row = self.alarms.answer(device, event_id, operator, how)
        self.audit(operator, "answer_event", device=device, event=event_id, state=how)
        self._send(device, EVENT_STATE, event_state(event_id, how, unix_ms(), operator))
        self._tell_desks({"type": "event", **row})

    # --- how it is ----------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return counts and groups as JSON-ready data."""
        groups = [self.status_of(group) for group in self.roster.groups.values() if group.kind != "private"]
        return {"site": self.place.site.name, "shard": self.place.hub.shard, **self.metrics.summary(), "floors": groups}

    async def _on_metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=self.metrics.prometheus(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _on_status(self, request: web.Request) -> web.Response:
        return web.json_response(self.metrics.summary())


def serve(site: Path, shard: int | None, pcap: Path | None, ready: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Run a hub of a site until it is told to end, and return its counts."""
    place = HubContext(site, shard)
    trace = Trace(pcap) if pcap else None
    hub = Hub(place, trace)
    try:
        asyncio.run(hub.run(ready))
    finally:
        if trace is not None:
            trace.close()
    return hub.status()
