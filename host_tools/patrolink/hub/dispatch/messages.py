"""Records that a dispatcher session delivers, shared by the session, the console, live view and voice."""

from typing import Any, Literal, NamedTuple

LiveFormat = Literal["jpeg", "rtp"]


class VoiceFrame(NamedTuple):
    """One voice packet of a group, transcoded to G.711 A-law at 8 kHz whatever codec the group uses.

    Attributes:
        group: Number of the group.
        talker: Device or dispatcher that holds the floor.
        ssrc: SSRC of the burst.
        first: True for the first packet of a burst.
        timestamp: RTP timestamp in samples at 8 kHz, modulo 2**32. Gives order and gaps within a burst.
        alaw: The samples, one byte each.
    """

    group: int
    talker: str
    ssrc: int
    first: bool
    timestamp: int
    alaw: bytes


class LiveFrame(NamedTuple):
    """One JPEG or one RTP packet of a live view, as the watcher requested.

    Attributes:
        view: Number of the live view.
        timestamp: RTP timestamp at 90 kHz.
        data: The JPEG, or the RTP packet in plain text.
    """

    view: int
    timestamp: int
    data: bytes


Message = dict[str, Any] | VoiceFrame | LiveFrame
