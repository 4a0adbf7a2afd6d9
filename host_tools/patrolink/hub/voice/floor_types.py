"""Records of floor control: members, rules, requests, bursts, and the effects that the floor machine returns."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from patrolink_protocol import mcptt


class FloorState(Enum):
    """State of a group's floor (3GPP TS 24.380 6.3.4)."""

    IDLE = "idle"
    TAKEN = "taken"
    PENDING_REVOKE = "pending revoke"


class FloorEventKind(Enum):
    """What happened on a floor. The value names the counter in the hub's metrics."""

    BEGIN = "begin"
    END = "end"
    QUEUED = "queued"
    DENIED = "denied"
    UNQUEUED = "unqueued"
    NO_PERMISSION = "reproached"
    SILENCE = "quiet"


@dataclass(eq=False)
class Member:
    """A participant of one group, as the floor control server sees it.

    Attributes:
        name: Device or dispatcher.
        ssrc: SSRC of the member's floor messages.
        max_priority: Highest priority that the member may request.
        rights: Subset of talk, emergency and broadcast.
        mcptt_id: The MCPTT ID, UTF-8.
        present: True while the hub can reach the member.
        newest_index: SRTCP index of the newest floor message that was processed.
        revoke_cause: Cause of a Floor Revoke that the member has not answered with Floor Release; 0: none.
        t8_at_ms: When the Floor Revoke is repeated next (T8).
        t8_count: How often the Floor Revoke was sent (C8).
        no_permission_at_ms: When the member was last told to stop sending without the floor.
    """

    name: str
    ssrc: int
    max_priority: int
    rights: frozenset[str]
    mcptt_id: bytes
    present: bool = False
    newest_index: int = -1
    revoke_cause: int = 0
    t8_at_ms: int = 0
    t8_count: int = 0
    no_permission_at_ms: int | None = None


@dataclass(frozen=True)
class FloorRules:
    """Floor control rules of a group.

    Attributes:
        talk_ms: Longest burst (T2).
        emergency_ms: Longest emergency burst (T2).
        queue: Requests that may wait.
        preempt: A higher priority takes the floor. Otherwise only an emergency does.
        deny_alone: Deny a request while no other member is present.
    """

    talk_ms: int = 30_000
    emergency_ms: int = 120_000
    queue: int = 16
    preempt: bool = True
    deny_alone: bool = True


@dataclass
class Burst:
    """The time during which one member holds the floor, under one SSRC.

    Attributes:
        ends_ms: When the talk time ends (T2), or the grace time while the burst is revoked (T3). After the burst: until
            when its late packets are forwarded.
        voice_ms: When the last packet arrived, or the grant was sent.
        acked: The holder has received the grant.
        t20_count: How often the grant was sent (C20).
        t20_started_ms: When the grant was sent last (T20).
        packets: Voice packets received.
    """

    member: Member
    ssrc: int
    priority: int
    indicator: int
    began_ms: int
    ends_ms: int
    voice_ms: int
    acked: bool = False
    t20_count: int = 1
    t20_started_ms: int = 0
    packets: int = 0


class FloorMessage(NamedTuple):
    """Effect: send a plain floor control datagram to a member."""

    member: Member
    data: bytes


@dataclass(frozen=True)
class FloorEvent:
    """Effect: inform recorder, console and metrics of a change.

    Attributes:
        ssrc: SSRC of the burst that begins or ends.
        cause: Cause code of a Floor Deny, or the reason why a burst ended, as text.
        indicator: Floor Indicator of a burst that begins (8.2.3.15).
    """

    kind: FloorEventKind
    now_ms: int
    member: Member | None
    ssrc: int = 0
    cause: str = ""
    indicator: int = 0


FloorEffect = FloorMessage | FloorEvent


@dataclass
class FloorRequest:
    """A member's request for the floor: granted at once, or queued."""

    member: Member
    priority: int
    indicator: int
    since_ms: int = 0

    @property
    def queue_key(self) -> tuple[bool, int, int]:
        """Sort key of the queue: emergencies first, then priority, then age."""
        return (not self.indicator & mcptt.EMERGENCY, -self.priority, self.since_ms)
