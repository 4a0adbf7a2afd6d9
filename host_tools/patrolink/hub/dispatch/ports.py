"""What a dispatcher session needs from the hub, as narrow interfaces."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from patrolink.core.clock import Clock
from patrolink.hub.dispatch.broadcaster import Broadcaster
from patrolink.hub.dispatch.message_queue import MessageQueue
from patrolink.hub.dispatch.messages import LiveFormat, VoiceFrame
from patrolink.hub.voice.floor_server import LocalParticipant
from patrolink.hub.voice.floor_types import Member

Rows = list[dict[str, Any]]


class FloorPort(Protocol):
    """Groups and floor control: VoiceService."""

    def groups(self) -> Rows:
        """Return the state of all groups."""

    def new_member(self, number: int, name: str, priority: int) -> Member:
        """Return a member for a dispatcher who is about to join a group."""

    def join(self, number: int, member: Member, participant: LocalParticipant) -> None:
        """Add a dispatcher to a group."""

    def leave(self, number: int, member: Member) -> None:
        """Remove a dispatcher from a group."""

    def receive_floor(self, number: int, member: Member, data: bytes) -> None:
        """Process plain floor control messages of a dispatcher."""

    def send_voice(self, ssrc: int, packet: bytes) -> bool:
        """Send a plain RTP packet. Returns False if the SSRC does not hold the floor."""

    def make_group(self, name: str, devices: list[str]) -> int:
        """Create a dynamic group and return its number."""

    def end_group(self, number: int) -> None:
        """End a dynamic group."""

    def private_group(self, device: str) -> int:
        """Return the number of a device's private group."""


class VoiceListener(Protocol):
    """A dispatcher who listens to a group."""

    def holds(self, group: int, ssrc: int) -> bool:
        """Return True if a burst is the listener's own."""

    def put_voice(self, frame: VoiceFrame) -> None:
        """Deliver a voice frame."""


class AudioPort(Protocol):
    """Voice of groups: DispatcherAudio."""

    def add(self, group: int, listener: VoiceListener) -> None:
        """Deliver a group's voice to a listener from now on."""

    def remove(self, group: int, listener: VoiceListener) -> None:
        """Stop delivering a group's voice to a listener."""


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
    """Recorded bursts: Recorder."""

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


class AuditPort(Protocol):
    """The audit log."""

    def write(self, who: str, what: str, **facts: Any) -> None:
        """Record an action before it is carried out."""


@dataclass(frozen=True)
class SessionPorts:
    """All interfaces of a dispatcher session. `clip_feed` and `clip_access` are None if the hub takes no clips."""

    floor: FloorPort
    audio: AudioPort
    alarms: AlarmPort
    positions: PositionPort
    recordings: RecordingPort
    commands: CommandPort
    live: LivePort
    clip_feed: ClipFeedPort | None
    clip_access: ClipAccessPort | None
    audit: AuditPort
    broadcaster: Broadcaster
    clock: Clock
