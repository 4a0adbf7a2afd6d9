"""Bars devices in a running hub, and admits them again: voice, live view, uploads, messages to the device."""

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from patrolink.core.clock import Clock
from patrolink.core.decoder import Row
from patrolink.core.errors import UserError
from patrolink.hub.dispatch.broadcaster import Broadcaster
from patrolink.hub.dispatch.commands import SentCommand
from patrolink.hub.infra import persistence
from patrolink.hub.infra.audit import AuditLog
from patrolink.hub.infra.bar_list import BarList
from patrolink.hub.infra.metrics import Metrics

APPLIED_FILE = "barred-applied.json"  # what this hub has applied; `patrolink hub bar` waits for it
_POLL_S = 0.5
_STUN_INTERVAL_MS = 60_000
_OPERATOR = "hub"


class BarredVoice(Protocol):
    """Voice of the hub: VoiceProxy."""

    def set_barred(self, devices: Iterable[str]) -> None:
        """Inform the voice of all devices that are barred."""


class BarredServices(NamedTuple):
    """What else stops for a barred device.

    Attributes:
        end_live: Ends the live view of a device: (device, reason).
        end_uploads: Disconnects the uploads of a device.
        discard_messages: Discards the messages that wait for a device.
        send_command: Sends a command: (operator, device, action, number, name, value).
    """

    end_live: Callable[[str, str], None]
    end_uploads: Callable[[str], None]
    discard_messages: Callable[[str], object]
    send_command: Callable[[str, str, str, int | None, str, str], SentCommand]


class _Stun(NamedTuple):
    command: int | None
    sent_ms: int
    is_answered: bool


class Barring:
    """Barring of one hub.

    Args:
        bars: The barred devices.
        voice: Voice of the hub.
        services: The other services.
        is_home: True if this hub sends commands; otherwise the home hub does.
        folder: Folder of the hub's state.

    Attributes:
        bars: The barred devices.
    """

    def __init__(
        self,
        bars: BarList,
        voice: BarredVoice,
        services: BarredServices,
        is_home: bool,
        folder: Path,
        dispatchers: Broadcaster,
        audit: AuditLog,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.bars, self._voice, self._services, self._is_home = bars, voice, services, is_home
        self._path, self._dispatchers, self._audit = folder / APPLIED_FILE, dispatchers, audit
        self._clock, self._metrics = clock, metrics
        applied = persistence.load_json(self._path) or {"barred": []}
        self._known: set[str] = {device for device in applied["barred"] if bars.knows(device)}
        self._saved_revision = -1  # the file is written at the start, for who waits for it
        self._stuns: dict[str, _Stun] = {}
        metrics.gauges["barred"] = bars.__len__

    async def run(self) -> None:
        """Follow the file until cancelled."""
        while True:
            self.poll()
            await asyncio.sleep(_POLL_S)

    def poll(self) -> None:
        """Apply what has changed in the file. What storage prevents is tried again at the next call."""
        try:
            self.bars.reload()
        except UserError:
            self._metrics.counts["bar_file_unreadable"] += 1
        barred, known = set(self.bars), self._known
        if barred != known:
            self._known = barred
            for device in sorted(barred - known):
                self._services.discard_messages(device)
            self._voice.set_barred(barred)
            for device in sorted(barred - known):
                self._bar(device)
            for device in sorted(known - barred):
                self._admit(device)
        if self._saved_revision != self.bars.revision:
            try:
                persistence.save_json(self._path, {"revision": self.bars.revision, "barred": sorted(self._known)})
                self._saved_revision = self.bars.revision
            except OSError:
                self._metrics.counts["storage_failed"] += 1

    def _bar(self, device: str) -> None:
        self._services.end_live(device, "the device is barred")
        self._services.end_uploads(device)
        self._record(device, "bar")
        self.contacted(device)

    def _admit(self, device: str) -> None:
        self._record(device, "unbar")
        self._stuns.pop(device, None)
        self._command(device, "revive")

    def _record(self, device: str, what: str) -> None:
        """Inform the audit log and dispatchers. A full disk does not keep a device from being barred."""
        entry = self.bars.find(device)
        who, reason = (entry.who, entry.reason) if entry else ("", "")
        self._audit.note(who, what, device=device, reason=reason)
        message = {"type": "barred", "device": device, "barred": what == "bar", "who": who, "reason": reason}
        self._dispatchers.broadcast(message)

    # --- the barred device --------------------------------------------------------------------------------------------

    def contacted(self, device: str) -> None:
        """Process a sign of life of a barred device: tell it to stun itself until it has answered."""
        now_ms, stun = self._clock.monotonic_ms(), self._stuns.get(device)
        if stun is not None and (stun.is_answered or now_ms - stun.sent_ms < _STUN_INTERVAL_MS):
            return
        self._stuns[device] = _Stun(self._command(device, "stun"), now_ms, False)

    def on_answer(self, row: Row) -> None:
        """Process a device's answer to a command."""
        stun = self._stuns.get(row["device"])
        if stun is not None and stun.command == row["command_id"]:
            self._stuns[row["device"]] = stun._replace(is_answered=True)

    def _command(self, device: str, action: str) -> int | None:
        if not self._is_home:
            return None
        try:
            return self._services.send_command(_OPERATOR, device, action, None, "", "").id
        except (UserError, OSError):  # storage failed: the device is told at a later contact
            self._metrics.counts["storage_failed"] += 1
            return None
