"""Composition of the service of a hub: broker, incidents, commands, console, uploads, clips and live view."""

import asyncio
import contextlib
from collections.abc import Callable, Container, Mapping
from typing import Any

from aiohttp import web
from patrolink_messages import CLIP_STATE

from patrolink.core.decoder import Decoder
from patrolink.core.keys import DeviceKey
from patrolink.hub.barring import BarredServices, Barring
from patrolink.hub.channel.ends import Channel
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
from patrolink.hub.group_table import GroupTable
from patrolink.hub.incidents.alarms import Alarms
from patrolink.hub.incidents.device_warnings import DeviceWarnings
from patrolink.hub.incidents.service import IncidentService
from patrolink.hub.infra import http_server, persistence
from patrolink.hub.infra.audit import AuditLog
from patrolink.hub.infra.bar_list import BarList
from patrolink.hub.infra.broker import Broker
from patrolink.hub.infra.device_keys import DeviceKeys
from patrolink.hub.infra.device_sender import DeviceSender
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.replay_store import ReplayStore
from patrolink.hub.infra.retention_ledger import RetentionLedger
from patrolink.hub.infra.tasks import run_until
from patrolink.hub.live.sessions import LiveSessions
from patrolink.hub.maintenance import Maintenance
from patrolink.hub.platform import Platform
from patrolink.hub.positions import PositionTable
from patrolink.hub.recordings import Recordings
from patrolink.hub.updates.service import UpdateFiles, UpdateService
from patrolink.hub.uplink import UplinkService
from patrolink.hub.voice_events import VoiceEvents
from patrolink.hub.voice_proxy import VoiceProxy

Ready = Callable[[dict[str, Any]], None]


class DeviceDirectory:
    """Looks up keys of devices and informs devices about their clips, on behalf of the clip service.

    Args:
        keys: By name.
        bars: Barred devices, which may not upload.
    """

    def __init__(self, keys: Mapping[str, DeviceKey], bars: Container[str], sender: DeviceSender) -> None:
        self._keys, self._bars, self._sender = keys, bars, sender

    def key_of(self, name: str) -> DeviceKey | None:
        """Return a device's key in its current epoch; None for a device that is barred or not of this site."""
        return None if name in self._bars else self._keys.get(name)

    def send_clip_state(self, name: str, values: dict[str, Any]) -> None:
        """Send a `clip_state`, unless the device has left the site while its clips remain."""
        if name in self._keys:
            self._sender.send(name, CLIP_STATE, values)


class ServiceHalf:
    """The service of a hub. It owns all files of the hub's state but those of VoiceHalf.

    Args:
        context: The site and which of its hubs this is.
        platform: Time, randomness, network and helper processes.
        channel: The service's end of the channel to the voice.
        metrics: Metrics of the service.

    Raises:
        UserError: An address is not available, or state cannot be read.
    """

    def __init__(self, context: HubContext, platform: Platform, channel: Channel, metrics: Metrics) -> None:
        self._context, self._platform, self._channel = context, platform, channel
        clock, state = platform.clock, context.state
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._metrics = metrics
        self._keys = DeviceKeys(context.keys)
        self._bars = bars = BarList(context.bars, context.keys)
        self._sender = sender = DeviceSender(context, bars, clock, platform.random_bytes, metrics)
        self._broadcaster = broadcaster = Broadcaster(metrics)
        self._audit = audit = AuditLog(state / "audit.jsonl", clock, metrics)
        self._groups = table = GroupTable()
        self._voice = voice = VoiceProxy(channel, table, context.site.home_shard(), clock, metrics)
        self._receiver = VoiceReceiver(platform.bind_udp(local_host(context.hub), 0), clock, metrics)
        self._clients = VoiceClients(context.hub, voice, self._receiver, platform.bind_udp, clock, metrics)
        ledger = RetentionLedger(state / "retention-recordings.json", context.site.retention_days)
        self._recordings = Recordings(context.recordings, ledger, clock, metrics)
        warnings = DeviceWarnings(broadcaster, audit, clock, metrics)
        self._events = VoiceEvents(
            voice, table, self._clients, self._receiver, self._recordings, self._keys, bars, sender, broadcaster,
            warnings, metrics,
        )  # fmt: skip
        self._incidents = IncidentService(
            Alarms(state / "alarms.json"), bars, sender, broadcaster, warnings, audit, clock, metrics
        )
        self._commands = commands = Commands(context.site, state, self._keys, bars, voice, sender, audit, clock)
        self._live = LiveSessions(
            context.hub,
            metrics,
            self._keys,
            commands.send,
            audit,
            broadcaster.broadcast,
            platform.bind_udp,
            clock,
        )
        self._clips = self._build_clips() if context.hub.uploads else None
        self._positions = PositionTable(clock)
        self._replay = ReplayStore(state, context.keys)
        self._maintenance = self._build_maintenance()
        self._barring = self._build_barring()
        self._updates = self._build_updates() if context.is_home else None
        self._uplink = self._build_uplink(warnings)
        self._sessions = SessionManager(context.site.dispatcher, self._session_ports(), metrics)

    def _build_uplink(self, warnings: DeviceWarnings) -> UplinkService:
        return UplinkService(
            Decoder(self._context.keys, repeated_events=True, newest_fix=True),
            self._replay,
            self._keys,
            voice=self._voice,
            barring=self._barring,
            positions=self._positions,
            incidents=self._incidents,
            live=self._live,
            clips=self._clips.intake if self._clips else None,
            updates=self._updates,
            sender=self._sender,
            dispatchers=self._broadcaster,
            warnings=warnings,
            audit=self._audit,
            clock=self._platform.clock,
            metrics=self._metrics,
        )

    def _build_barring(self) -> Barring:
        services = BarredServices(
            end_live=self._live.end,
            end_uploads=self._clips.uploads.disconnect if self._clips else _nothing,
            discard_messages=self._sender.discard,
            send_command=self._commands.send,
        )
        return Barring(
            self._bars, self._voice, services, self._context.is_home, self._context.state,
            self._broadcaster, self._audit, self._platform.clock, self._metrics,
        )  # fmt: skip

    def _build_updates(self) -> UpdateService:
        context = self._context
        return UpdateService(
            UpdateFiles(context.campaigns, context.images, context.state), self._bars, self._sender,
            self._commands.new_id, self._broadcaster, self._audit, self._platform.clock, self._metrics,
        )  # fmt: skip

    def _build_maintenance(self) -> Maintenance:
        return Maintenance(
            self._context.state,
            self._voice,
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
        return SessionPorts(
            floor=self._voice,
            voice=self._clients,
            alarms=self._incidents,
            positions=self._positions,
            recordings=self._recordings,
            commands=self._commands,
            live=self._live,
            clip_feed=self._clips.feed if self._clips else None,
            clip_access=self._clips.access if self._clips else None,
            updates=self._updates,
            audit=self._audit,
            broadcaster=self._broadcaster,
            clock=self._platform.clock,
        )

    def _build_clips(self) -> ClipService:
        context, directory = self._context, DeviceDirectory(self._keys, self._bars, self._sender)
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

    # --- life cycle ---------------------------------------------------------------------------------------------------

    async def run(self, stop: "asyncio.Future[Any]", ready: Ready) -> None:
        """Serve until `stop` is done.

        Args:
            stop: A future of the running loop.
            ready: Called with the hub's addresses and sizes when everything is running, the voice too.

        Raises:
            UserError: An address is not available, the broker cannot be reached, or TLS is required.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._receiver.close)
            stack.callback(self._live.close)
            self._receiver.start()
            channel = asyncio.ensure_future(self._channel.run(self._events))
            stack.callback(channel.cancel)
            if await _first(stop, channel, asyncio.ensure_future(self._events.wait_ready())):
                await self._start_servers(stack)
                self._live.open()
                jobs = [
                    self._maintenance.purge(),
                    self._maintenance.flush(),
                    self._barring.run(),
                    *([self._clips.verdicts.run()] if self._clips else []),
                    *([self._updates.run()] if self._updates else []),
                ]
                ready(self._addresses())
                await run_until(stop, [*jobs, _wait(channel)])
                self._maintenance.write_waiting()

    async def _start_servers(self, stack: contextlib.AsyncExitStack) -> None:
        context = self._context
        requests = {self._sender.home_topic: self._sender.on_request} if context.is_home else {}
        platform, path = self._platform, context.state / "mqtt-session.json"
        session = persistence.installation_id(path, "patrolink-hub-", platform.random_bytes)
        connection = platform.connect_broker(context.site.broker, session, requests, self._uplink.receive)
        broker = Broker(connection, self._sender, self._metrics)
        await broker.start()
        stack.push_async_callback(broker.close)
        if context.hub.console:
            routes = [web.get("/metrics", self._on_metrics), web.get("/status", self._on_status)]
            pages = console.Console(
                context.site, self._sessions.authenticate, self._sessions.open, self._audit.note, self._clips,
                context.console_tls is not None, platform.clock,
            )  # fmt: skip
            runner = await console.serve(
                pages, context.hub.console, context.console_tls, self._metrics, platform.listen_tcp, routes
            )
            stack.push_async_callback(runner.cleanup)
        if self._clips is not None:
            uploads = web.Application()
            self._clips.uploads.attach(uploads)
            runner = await http_server.start(
                uploads, context.hub.uploads, context.console_tls, "upload", self._metrics, platform.listen_tcp
            )
            stack.push_async_callback(runner.cleanup)

    def open_session(self, dispatcher: Dispatcher) -> DispatcherSession:
        """Return a new session of a dispatcher of the site, which the caller has to close."""
        return self._sessions.open(dispatcher)

    # --- status -------------------------------------------------------------------------------------------------------

    def _addresses(self) -> dict[str, Any]:
        fields = {"shard", "host", "floor_port", "media_port", "console", "uploads"}
        counts = {"groups": len(self._groups), "devices": len(self._keys)}
        return {**self._context.hub.model_dump(include=fields), **counts}

    async def _on_metrics(self, request: web.Request) -> web.Response:
        text = (await self._voice.metrics()).prometheus()
        return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _on_status(self, request: web.Request) -> web.Response:
        return web.json_response((await self._voice.metrics()).summary())


def _nothing(device: str) -> None:
    """Do nothing: this hub takes no clips."""


async def _first(stop: "asyncio.Future[Any]", channel: "asyncio.Task[None]", ready: "asyncio.Task[None]") -> bool:
    """Wait for the voice. Returns False if the hub was stopped before it was ready."""
    await asyncio.wait([stop, channel, ready], return_when=asyncio.FIRST_COMPLETED)
    if channel.done():
        channel.result()
    if ready.done():
        return True
    ready.cancel()
    return False


async def _wait(task: "asyncio.Task[None]") -> None:
    await task
