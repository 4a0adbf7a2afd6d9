"""Composition root of a hub: builds its services, wires them together, and runs them until a stop signal."""

import asyncio
import contextlib
import gc
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web
from patrolink_messages import CLIP_STATE

from patrolink.core import signals
from patrolink.core.decoder import Decoder
from patrolink.core.keys import DeviceKey
from patrolink.hub.clips.clip_service import ClipService
from patrolink.hub.config import Dispatcher, HubContext
from patrolink.hub.dispatch import console
from patrolink.hub.dispatch.broadcaster import Broadcaster
from patrolink.hub.dispatch.commands import Commands
from patrolink.hub.dispatch.hub_link import local_host
from patrolink.hub.dispatch.ports import SessionPorts
from patrolink.hub.dispatch.session import DispatcherSession
from patrolink.hub.dispatch.session_manager import SessionManager
from patrolink.hub.dispatch.voice_client import VoiceClients
from patrolink.hub.dispatch.voice_receiver import VoiceReceiver
from patrolink.hub.incidents.alarms import Alarms
from patrolink.hub.incidents.device_warnings import DeviceWarnings
from patrolink.hub.incidents.service import IncidentService
from patrolink.hub.infra import http_server, persistence
from patrolink.hub.infra.audit import AuditLog
from patrolink.hub.infra.broker import Broker
from patrolink.hub.infra.device_sender import DeviceSender
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.replay_store import ReplayStore
from patrolink.hub.infra.retention_ledger import RetentionLedger
from patrolink.hub.live.sessions import LiveSessions
from patrolink.hub.maintenance import Maintenance
from patrolink.hub.platform import Platform, SystemPlatform
from patrolink.hub.positions import PositionTable
from patrolink.hub.recordings import Recordings
from patrolink.hub.uplink import UplinkService
from patrolink.hub.voice.dispatcher_terms import MembershipAnnouncer
from patrolink.hub.voice.floor_trace import FloorTrace
from patrolink.hub.voice.group_registry import GroupRegistry
from patrolink.hub.voice.group_terms import GroupTerms
from patrolink.hub.voice.groups import Device
from patrolink.hub.voice.service import VoiceService, VoiceSockets

Ready = Callable[[dict[str, Any]], None]


class DeviceDirectory:
    """Looks up keys of devices and informs devices about their clips, on behalf of the clip service.

    Args:
        devices: By name.
    """

    def __init__(self, devices: Mapping[str, Device], sender: DeviceSender) -> None:
        self._devices, self._sender = devices, sender

    def key_of(self, name: str) -> DeviceKey | None:
        """Return a device's key in its current epoch; None for a device that is not of this site."""
        device = self._devices.get(name)
        return device.key if device else None

    def send_clip_state(self, name: str, values: dict[str, Any]) -> None:
        """Send a `clip_state`, unless the device has left the site while its clips remain."""
        if name in self._devices:
            self._sender.send(name, CLIP_STATE, values)


class Hub:
    """A hub of a site.

    Args:
        context: The site and which of its hubs this is.
        platform: Time, randomness, network and helper processes.
        pcap: File for a trace of the floor messages in plain text; None: no trace.
    """

    def __init__(self, context: HubContext, platform: Platform, pcap: Path | None = None) -> None:
        self._context, self._platform = context, platform
        clock, random_bytes = platform.clock, platform.random_bytes
        self._metrics = metrics = Metrics()
        sockets = VoiceSockets(*(platform.bind_udp(context.hub.listen, port) for port in _voice_ports(context)))
        address = sockets.floor.getsockname()[0], context.hub.floor_port
        self._trace = FloorTrace(pcap, clock, address) if pcap else None
        context.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sender = sender = DeviceSender(context, clock, random_bytes, metrics)
        self._broadcaster = broadcaster = Broadcaster(metrics)
        self._audit = audit = AuditLog(context.state / "audit.jsonl", clock, metrics)
        terms = GroupTerms(context.hub, sender, clock, metrics)
        host = local_host(context.hub)
        self._voice_receiver = receiver = VoiceReceiver(platform.bind_udp(host, 0), clock, metrics)
        registry = GroupRegistry(context, clock, random_bytes, MembershipAnnouncer(terms, receiver).announce)
        self._devices = devices = registry.devices
        writer = platform.recording_writer(context.recordings)
        ledger = RetentionLedger(context.state / "retention-recordings.json", context.site.retention_days)
        self._recordings = Recordings(context.recordings, ledger, clock, metrics)
        self._voice = voice = VoiceService(
            context,
            sockets,
            writer,
            self._recordings,
            registry,
            terms,
            broadcaster,
            receiver,
            clock,
            metrics,
            self._trace,
        )
        warnings = DeviceWarnings(broadcaster, audit, clock, metrics)
        self._incidents = IncidentService(
            Alarms(context.state / "alarms.json"), sender, broadcaster, warnings, audit, clock, metrics
        )
        self._commands = commands = Commands(context.site, context.state, devices, voice, sender, audit, clock)
        self._live = LiveSessions(
            context.hub, metrics, devices, commands.send, audit, broadcaster.broadcast, platform.bind_udp, clock
        )
        self._clips = self._build_clips() if context.hub.uploads else None
        self._positions = PositionTable(clock)
        self._replay = ReplayStore(context.state, context.keys)
        self._maintenance = self._build_maintenance()
        self._uplink = self._build_uplink(terms, warnings)
        self._sessions = SessionManager(context.site.dispatcher, self._session_ports(), metrics)

    def _build_uplink(self, terms: GroupTerms, warnings: DeviceWarnings) -> UplinkService:
        return UplinkService(
            Decoder(self._context.keys, repeated_events=True),
            self._replay,
            self._devices,
            terms=terms,
            positions=self._positions,
            incidents=self._incidents,
            live=self._live,
            clips=self._clips.intake if self._clips else None,
            sender=self._sender,
            dispatchers=self._broadcaster,
            warnings=warnings,
            audit=self._audit,
            clock=self._platform.clock,
            metrics=self._metrics,
        )

    def _build_maintenance(self) -> Maintenance:
        return Maintenance(
            self._context.state,
            self._recordings,
            self._clips.retention if self._clips else None,
            self._replay,
            self._incidents,
            self._audit,
            self._broadcaster,
            self._platform.clock,
            self._metrics,
        )

    def _session_ports(self) -> SessionPorts:
        platform = self._platform
        voice = VoiceClients(
            self._context.hub, self._voice, self._voice_receiver, platform.bind_udp, platform.clock, self._metrics
        )
        return SessionPorts(
            floor=self._voice,
            voice=voice,
            alarms=self._incidents,
            positions=self._positions,
            recordings=self._recordings,
            commands=self._commands,
            live=self._live,
            clip_feed=self._clips.feed if self._clips else None,
            clip_access=self._clips.access if self._clips else None,
            audit=self._audit,
            broadcaster=self._broadcaster,
            clock=self._platform.clock,
        )

    def _build_clips(self) -> ClipService:
        context, directory = self._context, DeviceDirectory(self._devices, self._sender)
        return ClipService(
            context.clips,
            context.site.clips_gb << 30,
            RetentionLedger(context.state / "retention-clips.json", context.site.retention_days),
            context.evidence,
            device_key=directory.key_of,
            send_state=directory.send_clip_state,
            notify=self._broadcaster.broadcast,
            audit=self._audit.note,
            metrics=self._metrics,
            clock=self._platform.clock,
        )

    async def run(self, stop: "asyncio.Future[Any]", ready: Ready) -> None:
        """Serve until `stop` is done.

        Args:
            stop: A future of the running loop.
            ready: Called with the hub's addresses and sizes when everything is running.

        Raises:
            UserError: An address is not available, the broker cannot be reached, or TLS is required.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._voice.close)
            stack.callback(self._voice_receiver.close)
            stack.callback(self._live.close)
            await self._start_servers(stack)
            self._voice.start()
            self._voice_receiver.start()
            self._live.open()
            jobs = [
                self._voice.run(),
                self._maintenance.purge(),
                self._maintenance.flush(),
                *([self._clips.verdicts.run()] if self._clips else []),
            ]
            ready(self._addresses())
            await _run_until(stop, jobs)
            self._maintenance.write_waiting()
            with contextlib.suppress(OSError):  # addresses are learnt again
                self._voice.save()

    async def _start_servers(self, stack: contextlib.AsyncExitStack) -> None:
        context = self._context
        requests = {self._sender.home_topic: self._sender.on_request} if context.is_home else {}
        platform, path = self._platform, context.state / "mqtt-session.json"
        session = persistence.installation_id(path, "patrolink-hub-", platform.random_bytes)
        connection = platform.connect_broker(context.site.broker, session, requests, self._uplink.receive)
        broker = Broker(connection, self._sender, self._metrics)
        await broker.start()
        stack.push_async_callback(broker.close)
        stack.push_async_callback(self._voice.recorder.close)
        if context.hub.console:
            routes = [web.get("/metrics", self._on_metrics), web.get("/status", self._on_status)]
            pages = console.Console(
                context.site, self._sessions.authenticate, self._sessions.open, self._audit.note, self._clips,
                context.console_tls is not None, platform.clock,
            )  # fmt: skip
            runner = await console.serve(pages, context.hub.console, context.console_tls, routes)
            stack.push_async_callback(runner.cleanup)
        if self._clips is not None:
            uploads = web.Application()
            self._clips.uploads.attach(uploads)
            runner = await http_server.start(uploads, context.hub.uploads, context.console_tls, "uploads")
            stack.push_async_callback(runner.cleanup)

    def open_session(self, dispatcher: Dispatcher) -> DispatcherSession:
        """Return a new session of a dispatcher of the site, which the caller has to close."""
        return self._sessions.open(dispatcher)

    @property
    def metrics(self) -> Metrics:
        """Counters and gauges of the hub."""
        return self._metrics

    def close(self) -> None:
        """Close the trace."""
        if self._trace is not None:
            self._trace.close()

    # --- status -------------------------------------------------------------------------------------------------------

    def _addresses(self) -> dict[str, Any]:
        fields = {"shard", "host", "floor_port", "media_port", "console", "uploads"}
        counts = {"groups": self._metrics.gauges["groups"](), "devices": len(self._devices)}
        return {**self._context.hub.model_dump(include=fields), **counts}

    def status(self) -> dict[str, Any]:
        """Return counts and the state of groups as JSON-ready data."""
        site, shard = self._context.site.name, self._context.hub.shard
        floors = self._voice.groups(include_private=False)
        return {"site": site, "shard": shard, **self._metrics.snapshot().summary(), "floors": floors}

    async def _on_metrics(self, request: web.Request) -> web.Response:
        return web.Response(
            text=self._metrics.snapshot().prometheus(), headers={"Content-Type": "text/plain; version=0.0.4"}
        )

    async def _on_status(self, request: web.Request) -> web.Response:
        return web.json_response(self._metrics.snapshot().summary())


def _voice_ports(context: HubContext) -> tuple[int, int]:
    return context.hub.floor_port, context.hub.media_port


async def _run_until(stop: "asyncio.Future[Any]", jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run jobs until `stop` is done. An exception in a job ends all of them and is raised."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
    failed = [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)  # they write their files to the end
    for task in failed:
        task.result()


def serve(site: Path, shard: int | None, pcap: Path | None, ready: Ready) -> dict[str, Any]:
    """Run a hub of a site until a stop signal, and return its status.

    Args:
        site: The site file.
        shard: Which hub of the site; None: the only one.
        pcap: File for a trace of the floor messages; None: no trace.
        ready: Called with the hub's addresses and sizes when everything is running.
    """
    hub = Hub(HubContext(site, shard), SystemPlatform(), pcap)
    try:
        asyncio.run(_serve(hub, ready))
    finally:
        hub.close()
    return hub.status()


async def _serve(hub: Hub, ready: Ready) -> None:
    def on_ready(facts: dict[str, Any]) -> None:
        gc.collect()
        gc.freeze()  # otherwise each collection visits thousands of devices and keys, and delays voice
        ready(facts)

    with signals.stop_requested() as stop:
        await hub.run(stop, on_ready)
