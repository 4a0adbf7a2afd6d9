"""What floor control is about: members of a group and its rules, wishes to speak, bursts of voice, and what happens."""

from dataclasses import dataclass
from enum import Enum

from patrolink_protocol import mcptt as m


class FloorState(Enum):
    """Of the group's floor."""

    IDLE = "idle"
    TAKEN = "taken"
    PENDING_REVOKE = "pending revoke"


class FloorEventKind(Enum):
    """What happened, for recorder, console and metrics."""

    BEGIN = "begin"
    END = "end"
    QUEUED = "queued"
    DENIED = "denied"
    UNQUEUED = "unqueued"
    REPROACHED = "reproached"  # spoke without the floor
    QUIET = "quiet"


@dataclass(eq=False)
class Member:
    """
    A participant of one group.

    priority  the highest that it may ask for
    rights    of talk, emergency, broadcast
    user      its MCPTT ID, bytes
    present   the hub knows where it is
    """

    name: str
    ssrc: int
    priority: int
    rights: frozenset[str]
    user: bytes
    present: bool = False
    index: int = -1  # of the newest datagram
    revoke_cause: int = 0  # it has been told to stop, and has not said Release yet
    revoke_at: int = 0
    revokes: int = 0
    reproached_at: int | None = None


@dataclass(frozen=True)
class FloorRules:
    """Of a group. Times are in milliseconds."""

    talk_ms: int = 30_000  # T2
    emergency_ms: int = 120_000
    queue: int = 16
    preempt: bool = True  # a higher priority takes the floor; else only an emergency does
    deny_alone: bool = True  # nobody else is there to hear


@dataclass
class Burst:
    """Voice of one holder under one SSRC."""

    member: Member
    ssrc: int
    priority: int
    indicator: int
    began_ms: int
    ends_ms: int  # T2; the end of T3 once it is being revoked; when it has ended, until when late voice passes
    voice_ms: int  # last packet, or the grant
    acked: bool = False
    grants: int = 1
    granted_at: int = 0
    packets: int = 0


@dataclass(frozen=True)
class FloorEvent:
    """`cause` of a Deny or Revoke, or why a burst ended: a text."""

    what: FloorEventKind
    now_ms: int
    member: Member | None
    ssrc: int = 0
    cause: str = ""
    indicator: int = 0


@dataclass
class QueuedRequest:
    """A member's wish to speak."""

    member: Member
    priority: int
    indicator: int
    since_ms: int = 0

    @property
    def order(self) -> tuple[bool, int, int]:
        return (not self.indicator & m.EMERGENCY, -self.priority, self.since_ms)
