"""What a dispatcher session needs from the hub, as narrow interfaces."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from patrolink.core.clock import Clock
from patrolink.hub.config import Dispatcher
from patrolink.hub.dispatch.broadcaster import Broadcaster
from patrolink.hub.dispatch.message_queue import MessageQueue
from patrolink.hub.dispatch.messages import LiveFormat
from patrolink.hub.voice.dispatcher_terms import DispatcherTerms

Rows = list[dict[str, Any]]


class FloorPort(Protocol):
    """Groups and floor control: VoiceProxy."""

    def groups(self) -> Rows:
        """Return the state of all groups."""

    async def join(
        self, session: int, name: str, priority: int, number: int, media_address: tuple[str, int]
    ) -> DispatcherTerms:
        """Make a dispatcher's session a member of a group."""

    def leave(self, session: int, number: int) -> None:
        """Remove a dispatcher's session from a group."""

    async def make_group(self, name: str, devices: list[str]) -> int:
        """Create a dynamic group and return its number."""

    async def end_group(self, number: int) -> None:
        """End a dynamic group."""

    def private_group(self, device: str) -> int:
        """Return the number of a device's private group."""


class ParticipationPort(Protocol):
    """A dispatcher's participation in a group: GroupParticipation."""

    def request(self, priority: int, indicator: int) -> None:
        """Request the floor."""

    def release(self) -> None:
        """Release the floor, or withdraw the request."""

    def send_audio(self, alaw: bytes) -> bool:
        """Send 1 to 480 bytes of A-law. Returns False without the floor."""


class VoicePort(Protocol):
    """The participations of a dispatcher's session: VoiceClient."""

    async def join(self, number: int) -> ParticipationPort:
        """Join a group, unless the session has joined it already."""

    def participation(self, number: int) -> ParticipationPort | None:
        """Return the participation in a group; None if the session has not joined it."""

    def leave(self, number: int) -> None:
        """Leave a group, if the session has joined it."""

    def close(self) -> None:
        """Leave all groups."""


class VoiceClientsPort(Protocol):
    """Push-to-talk of dispatchers: VoiceClients."""

    def open(self, dispatcher: Dispatcher, queue: MessageQueue) -> VoicePort:
        """Return the participations of a new session."""


class AlarmPort(Protocol):
    """Events of devices: IncidentService."""

    def alarms(self) -> Rows:
        """Return the open alarms."""

    def answer_event(self, who: str, device: str, event_id: int, state: str) -> None:
        """Set the state of an event, and inform the wearer."""


class PositionPort(Protocol):
    """Positions of devices: PositionTable."""

    def rows(self) -> Rows:
        """Return the newest position of each device."""


class RecordingPort(Protocol):
    """Recorded bursts: Recordings."""

    def newest(self, group: int | None = None, limit: int = 100) -> Rows:
        """Return rows of recordings, newest first."""

    def path(self, name: str) -> Path:
        """Return the sound file of a recording."""


class CommandPort(Protocol):
    """Commands to devices: Commands."""

    def command(
        self, operator: str, device: str, action: str, number: int | None = None, name: str = "", value: str = ""
    ) -> int:
        """Send a command and return its id."""

    def listen_in(self, operator: str, device: str, reason: str) -> int:
        """Have a device open its microphone, and return the command's id."""


class LivePort(Protocol):
    """Live views."""

    def rows(self) -> Rows | None:
        """Return the active live views; None if the hub has no live view."""

    def start(self, watcher: MessageQueue, device: str, seconds: int, live_format: LiveFormat) -> int:
        """Start to watch a device, and return the id of the view."""

    def stop(self, watcher: MessageQueue, device: str) -> None:
        """Stop watching a device."""

    def leave(self, watcher: MessageQueue) -> None:
        """Stop watching all devices."""


class ClipFeedPort(Protocol):
    """Rows of clips: ClipFeed."""

    def newest(self, limit: int) -> Rows:
        """Return rows of clips, newest first."""


class ClipAccessPort(Protocol):
    """Access to clips: ClipAccess."""

    def record(self, who: str, what: str, **facts: Any) -> None:
        """Record an access in the access log before it happens."""

    def preserve(self, device: str, number: int) -> None:
        """Exempt a clip from retention."""


class UpdatePort(Protocol):
    """Update campaigns: UpdateService."""

    def rows(self, limit: int) -> Rows:
        """Return rows of campaigns with those of at most `limit` devices each, newest first."""


class AuditPort(Protocol):
    """The audit log."""

    def write(self, who: str, what: str, **facts: Any) -> None:
        """Record an action before it is carried out; UserError when that fails."""

    def defer(self, who: str, what: str, **facts: Any) -> None:
        """Record an action now, or as soon as storage works again."""


@dataclass(frozen=True)
class SessionPorts:
    """All interfaces of a dispatcher session.

    `clip_feed` and `clip_access` are None if the hub takes no clips, `updates` unless it is the home hub.
    """

    floor: FloorPort
    voice: VoiceClientsPort
    alarms: AlarmPort
    positions: PositionPort
    recordings: RecordingPort
    commands: CommandPort
    live: LivePort
    clip_feed: ClipFeedPort | None
    clip_access: ClipAccessPort | None
    updates: UpdatePort | None
    audit: AuditPort
    broadcaster: Broadcaster
    clock: Clock
