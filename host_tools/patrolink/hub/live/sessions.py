"""Live sessions of a hub: one per device that is viewed, with the dispatchers that watch it.

The first watcher makes the hub send the start command to the device, the last one that leaves makes it send the stop
command. All dispatchers are informed who watches which device. A watcher receives JPEG files (only the newest if it is
slow) or the RTP packets.
"""

import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Protocol

from patrolink.core.clock import Clock
from patrolink.core.errors import UserError
from patrolink.core.keys import DeviceKey
from patrolink.hub.config import HubConfig
from patrolink.hub.dispatch.commands import SentCommand
from patrolink.hub.dispatch.messages import LiveFormat, LiveFrame
from patrolink.hub.dispatch.ports import AuditPort
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.udp import UdpSocket
from patrolink.hub.live.jpeg_transcoder import JpegTranscoder
from patrolink.hub.live.receiver import LiveReceiver
from patrolink.hub.live.stream import LiveStream, Picture

MAX_SESSIONS = MAX_WATCHERS = 8


class Watcher(Protocol):
    """A dispatcher session as live view needs it."""

    @property
    def name(self) -> str:
        """Name of the dispatcher."""

    def put(self, message: LiveFrame) -> None:
        """Queue an RTP packet."""

    def put_picture(self, picture: LiveFrame) -> bool:
        """Queue a JPEG in place of an older one of the same view; return False if there was an older one."""


class LiveSessions:
    """The live sessions of a hub.

    Args:
        config: The hub's entry in the site file.
        metrics: Where sessions, pictures and rejected datagrams are counted.
        keys: Keys of the devices of the site.
        send_command: Sends a command: (operator, device, action, number, name, value).
        audit: The audit log.
        broadcast: Sends a message to all dispatchers.
        bind_udp: Returns a bound socket.
        clock: Source of time.

    Raises:
        UserError: The UDP port cannot be bound.
    """

    def __init__(
        self,
        config: HubConfig,
        metrics: Metrics,
        keys: Mapping[str, DeviceKey],
        send_command: Callable[[str, str, str, int | None, str, str], SentCommand],
        audit: AuditPort,
        broadcast: Callable[[dict[str, Any]], None],
        bind_udp: Callable[[str, int], UdpSocket],
        clock: Clock,
    ) -> None:
        self._metrics, self._pool, self._clock = metrics, ThreadPoolExecutor(1, "live"), clock
        self._keys, self._send_command, self._audit, self._broadcast = keys, send_command, audit, broadcast
        self._receiver: LiveReceiver | None = None
        if config.live_port:
            self._receiver = LiveReceiver(bind_udp(config.listen, config.live_port), metrics.refused, clock)
        self._address = f"{config.host}:{config.live_port}"
        self._sessions: dict[str, _LiveSession] = {}
        metrics.gauges.update(
            live_views=lambda: len(self._sessions),
            live_watchers=lambda: sum(len(session.watchers) for session in self._sessions.values()),
        )

    def open(self) -> None:
        """Start receiving on the running event loop."""
        if self._receiver is not None:
            self._receiver.start()

    def close(self) -> None:
        """End all sessions. Their devices receive no more reports and stop as well."""
        if self._receiver is not None:
            self._receiver.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def rows(self) -> list[dict[str, Any]] | None:
        """Return the sessions as JSON-ready data, or None if this hub has no live view.

        Keys: device, view (id), state (asked, on, over), who (started it), watchers (names), on_ms (time since its
        start), seconds (duration), why (reason of its end).
        """
        return None if self._receiver is None else [session.row() for session in self._sessions.values()]

    def start(self, watcher: Watcher, device: str, seconds: int, live_format: LiveFormat) -> int:
        """Add a watcher to the session of a device, which is started if there is none.

        Args:
            watcher: The dispatcher session.
            device: Name of the device.
            seconds: Duration of a new session; a running one keeps its own.
            live_format: What the watcher receives.

        Returns:
            The id of the view.

        Raises:
            UserError: The hub has no live view, the device is unknown, or a limit is reached.
        """
        if self._receiver is None:
            raise UserError("this hub has no live view; set live_port in the site file's [[hub]]")
        if device not in self._keys:
            raise UserError(f"no device {device!r} at this site; check its name")
        session = self._sessions.get(device)
        if session is None and len(self._sessions) >= MAX_SESSIONS:
            raise UserError(f"{MAX_SESSIONS} live views are active, which is the limit; end one first")
        if session is not None and watcher not in session.watchers and len(session.watchers) >= MAX_WATCHERS:
            raise UserError(f"{device} has {MAX_WATCHERS} watchers, which is the limit; wait until one stops")
        self._audit.write(watcher.name, "live_start", device=device, seconds=seconds, form=live_format)
        if session is None:
            command = self._send_command(watcher.name, device, "live_view_start", seconds, "", self._address)
            session = _LiveSession(
                device, self._keys[device], watcher.name, seconds, command, self._pool, self._metrics, self._clock,
                self._on_change, self._on_end,
            )  # fmt: skip
            self._sessions[device] = session
            self._receiver.add(session.stream)
            self._metrics.counts["live_started"] += 1
        session.watchers[watcher] = live_format
        session.stream.request_key_frame()
        self._on_change(session)
        return session.stream.ssrc

    def stop(self, watcher: Watcher, device: str) -> None:
        """Remove a watcher from the session of a device; the last one ends it.

        Raises:
            UserError: The dispatcher does not watch the device.
        """
        session = self._sessions.get(device)
        if session is None or watcher not in session.watchers:
            raise UserError(f"you do not watch {device}; start a live view first")
        del session.watchers[watcher]
        if session.watchers:
            self._on_change(session)
        else:
            self._end(session, "no watchers left")
        self._audit.defer(watcher.name, "live_stop", device=device)
        if not session.watchers:
            self._send_command(watcher.name, device, "live_view_stop", None, "", "")

    def end(self, device: str, reason: str) -> None:
        """End the session of a device, if there is one."""
        session = self._sessions.get(device)
        if session is not None:
            self._end(session, reason)

    def leave(self, watcher: Watcher) -> None:
        """Remove a watcher from all sessions."""
        for device, session in list(self._sessions.items()):
            if watcher in session.watchers:
                with contextlib.suppress(UserError):
                    self.stop(watcher, device)

    def on_answer(self, row: dict[str, Any]) -> None:
        """Handle a device's answer to a command: a session that the device refuses ends."""
        session = self._sessions.get(row["device"])
        if session is None or session.stream.ssrc != row["command_id"]:
            return
        if row["result"] not in ("started", "done"):
            self._end(session, row["text"] or row["result"])

    def _end(self, session: "_LiveSession", reason: str) -> None:
        assert self._receiver is not None
        self._receiver.remove(session.stream, reason)

    def _on_change(self, session: "_LiveSession") -> None:
        self._broadcast({"type": "live", **session.row()})

    def _on_end(self, session: "_LiveSession", reason: str) -> None:
        device, pictures = session.stream.device, session.stream.pictures
        del self._sessions[device]
        self._audit.defer("", "live_end", device=device, why=reason, pictures=pictures)
        self._broadcast({"type": "live", **session.row(reason)})


class _LiveSession:
    """The stream of one device and the format that each watcher receives."""

    def __init__(
        self,
        device: str,
        key: DeviceKey,
        started_by: str,
        seconds: int,
        command: SentCommand,
        pool: Executor,
        metrics: Metrics,
        clock: Clock,
        on_change: "Callable[[_LiveSession], None]",
        on_end: "Callable[[_LiveSession, str], None]",
    ) -> None:
        self.watchers: dict[Watcher, LiveFormat] = {}
        self._started_by, self._seconds, self._metrics, self._clock = started_by, seconds, metrics, clock
        self._notify_change, self._notify_end = on_change, on_end
        self.stream = LiveStream(
            device,
            key,
            command.id,
            command.expires_ms,
            1000 * seconds,
            clock.monotonic_ms(),
            max(0, command.expires_ms - clock.unix_ms()),
            self,
        )
        self._transcoder = JpegTranscoder(pool, self._on_jpeg, self.stream.request_key_frame)

    def row(self, end_reason: str = "") -> dict[str, Any]:
        started_ms = self.stream.started_ms
        return {
            "device": self.stream.device,
            "view": self.stream.ssrc,
            "state": "over" if end_reason else "asked" if started_ms is None else "on",
            "who": self._started_by,
            "watchers": sorted({watcher.name for watcher in self.watchers}),
            "on_ms": self._clock.monotonic_ms() - started_ms if started_ms is not None else 0,
            "seconds": self._seconds,
            "why": end_reason,
        }

    def on_start(self) -> None:
        self._notify_change(self)

    def on_packet(self, packet: bytes) -> None:
        timestamp = int.from_bytes(packet[4:8], "big")
        for watcher, live_format in self.watchers.items():
            if live_format == "rtp":
                watcher.put(LiveFrame(self.stream.ssrc, timestamp, packet))

    def on_picture(self, picture: Picture) -> None:
        self._metrics.counts["live_pictures"] += 1
        if "jpeg" in self.watchers.values():
            self._transcoder.push(picture)

    def _on_jpeg(self, timestamp: int, jpeg: bytes) -> None:
        frame = LiveFrame(self.stream.ssrc, timestamp, jpeg)
        for watcher, live_format in self.watchers.items():
            if live_format == "jpeg" and not watcher.put_picture(frame):
                self._metrics.counts["live_left_out"] += 1

    def on_end(self, reason: str) -> None:
        self._transcoder.close()
        self._metrics.counts["live_not_decoded"] += self._transcoder.skipped
        self._notify_end(self, reason)
