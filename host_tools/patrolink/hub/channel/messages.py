"""Messages between voice and service, and their form as JSON lines.

After each connection, both sides send their whole state and then `StateSent`. A message that is lost with a connection
is therefore not repeated. Requests of the service have a number; the voice answers each with one reply.
"""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StateSent:
    """End of the state that a side sends after a connection."""


# --- service to voice ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KeyEpoch:
    """A device has begun a key epoch. Part of the service's state."""

    device: str
    epoch: int


@dataclass(frozen=True)
class BarredDevices:
    """All devices that are barred. Part of the service's state, and sent after each change."""

    devices: list[str]


@dataclass(frozen=True)
class FrameReceived:
    """A device has sent a frame through the broker."""

    device: str
    is_hello: bool


@dataclass(frozen=True)
class GroupReport:
    """A device has reported the groups and keys that it holds: the fields of `ptt_status`."""

    device: str
    room: int
    groups: bytes


@dataclass(frozen=True)
class Leave:
    """A dispatcher's session leaves a group."""

    session: int
    group: int


@dataclass(frozen=True)
class Join:
    """Request: a dispatcher's session joins a group. The reply is `Joined`."""

    request: int
    session: int
    name: str
    priority: int
    group: int
    media_host: str
    media_port: int


@dataclass(frozen=True)
class MakeGroup:
    """Request: create a dynamic group. The reply is `Done` with its number."""

    request: int
    name: str
    devices: list[str]


@dataclass(frozen=True)
class EndGroup:
    """Request: end a dynamic group. The reply is `Done`."""

    request: int
    group: int


@dataclass(frozen=True)
class ReadMetrics:
    """Request: read the metrics of the voice. The reply is `MetricsRead`."""

    request: int


# --- voice to service ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GroupState:
    """State of a group, as the console shows it. Part of the voice's state, and sent after small changes."""

    row: dict[str, Any]


@dataclass(frozen=True)
class Notice:
    """A message for all dispatchers: `floor`, `group`, `gone` or `recording`."""

    message: dict[str, Any]


@dataclass(frozen=True)
class BurstCounts:
    """Packets of all bursts in progress: group, packets and lost of each."""

    rows: list[tuple[int, int, int]]


@dataclass(frozen=True)
class DeviceMessage:
    """A protocol message that is to be sent to a device through the broker."""

    device: str
    kind: int
    values: dict[str, Any]


@dataclass(frozen=True)
class CloneSuspected:
    """Packets of a device come from two senders."""

    device: str


@dataclass(frozen=True)
class GroupKeyChanged:
    """A group that dispatchers have joined has another key."""

    group: int
    number: int
    secret: bytes


@dataclass(frozen=True)
class Joined:
    """Reply: terms of a dispatcher's membership, see DispatcherTerms."""

    request: int
    ssrc: int
    hub_ssrc: int
    mcptt_id: bytes
    session_key: bytes
    key_number: int
    key_secret: bytes


@dataclass(frozen=True)
class Done:
    """Reply: the request was carried out."""

    request: int
    number: int = 0


@dataclass(frozen=True)
class MetricsRead:
    """Reply: the metrics of the voice, see MetricsSnapshot."""

    request: int
    snapshot: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """Reply: the request was refused, or storage failed."""

    request: int
    error: str
    is_storage: bool


Request = Join | MakeGroup | EndGroup | ReadMetrics
ServiceMessage = StateSent | KeyEpoch | BarredDevices | FrameReceived | GroupReport | Leave | Request
Reply = Joined | Done | MetricsRead | Failed
VoiceMessage = StateSent | GroupState | Notice | BurstCounts | DeviceMessage | CloneSuspected | GroupKeyChanged | Reply
Message = ServiceMessage | VoiceMessage

_TYPES: dict[str, type] = {
    message.__name__: message
    for message in (
        StateSent, KeyEpoch, BarredDevices, FrameReceived, GroupReport, Leave, Join, MakeGroup, EndGroup,
        ReadMetrics,
        GroupState, Notice, BurstCounts, DeviceMessage, CloneSuspected, GroupKeyChanged,
        Joined, Done, MetricsRead, Failed,
    )
}  # fmt: skip


def encode(message: Message) -> bytes:
    """Return a message as a line of JSON: its type and its fields. Bytes become `{"hex": ...}`."""
    document = [type(message).__name__, vars(message)]
    return json.dumps(document, default=_encode_bytes, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Message:
    """Return the message of a line.

    Raises:
        ValueError: The line holds no message.
    """
    try:
        name, fields = json.loads(line, object_hook=_decode_bytes)
        message: Message = _TYPES[name](**fields)
    except (KeyError, TypeError, RecursionError) as e:
        raise ValueError(f"not a message between voice and service: {e}") from None
    return message


def _encode_bytes(value: object) -> dict[str, str]:
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    raise TypeError(f"{type(value)} in a message between voice and service")


def _decode_bytes(value: dict[str, Any]) -> Any:
    return bytes.fromhex(value["hex"]) if value.keys() == {"hex"} else value
