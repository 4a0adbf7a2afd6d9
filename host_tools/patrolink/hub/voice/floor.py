"""Floor control of one talk group as its hub sees it (3GPP TS 24.380 6.3.4 and 6.3.5). Pure; time is handed in.

At any time at most one SSRC of voice is passed on. Messages of a participant have to be in order: one that is older
than the newest taken is dropped (`index` is SRTCP's), for whatever it carried was said again or has been overtaken.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from patrolink_protocol import mcptt as m

from patrolink.hub.voice.floor_types import (
    Burst,
    FloorEvent,
    FloorEventKind,
    FloorRules,
    FloorState,
    Member,
    QueuedRequest,
)

T1_MS = 4000  # end of voice
T3_MS = 1000  # from Revoke to the end of the burst
T4_MS = 30_000  # nobody has spoken: told once
T7_MS, C7 = 1000, 3  # Idle and Taken said again: a device that sleeps is not to be woken ten times
T8_MS, C8 = 500, 6  # Revoke said again
T20_MS, C20 = 300, 3  # Granted said again
_LATE_MS = 400  # voice that was under way when its burst ended
_REPROACH_MS = 1000  # between two Revokes for voice without the floor


@dataclass
class Floor:
    """
    hub_ssrc  the sender of what is said here
    new_ssrc  makes an SSRC that was never used under the group's key
    send      hands a plain datagram to a member; one that is not present does not get it
    tell      is told what happens
    """

    rules: FloorRules
    hub_ssrc: int
    new_ssrc: Callable[[], int]
    send: Callable[[Member, bytes], None]
    tell: Callable[[FloorEvent], None]
    state: FloorState = FloorState.IDLE
    burst: Burst | None = None
    queue: list[QueuedRequest] = field(default_factory=list)
    members: dict[int, Member] = field(default_factory=dict)
    sequence: int = 0
    _last: Burst | None = None  # the burst before: its voice passes until `ends_ms`
    _repeat_at: int = 0
    _repeats: int = 0
    _quiet_at: int | None = None

    def __post_init__(self) -> None:
        self._buf = bytearray(512)
        self._writer = m.Writer(self._buf)
        self._message = m.Message()

    # --- members ------------------------------------------------------------------------------------------------------

    def start(self, now_ms: int) -> None:
        """Begin, or begin anew: nobody has the floor, and all are told."""
        self._idle(now_ms)

    def join(self, member: Member, now_ms: int) -> None:
        """A member from now on, not yet present."""
        self.members[member.ssrc] = member

    def leave(self, member: Member, now_ms: int) -> None:
        """No member any more: it loses floor and place."""
        self.members.pop(member.ssrc, None)
        self._unqueue(member, now_ms)
        if self.burst and self.burst.member is member:
            self._end(now_ms, "left")

    def sync(self, member: Member, now_ms: int) -> None:
        """Late entry: tell a member that has just come who speaks; the holder, that it still holds the floor."""
        member.present = True
        if self._holds(member):
            self._grant_again(now_ms)
            return
        self._writer.clear()
        self._write_state(member)
        self._out(member)

    # --- what comes ---------------------------------------------------------------------------------------------------

    def receive(self, member: Member, data: bytes, index: int, now_ms: int) -> None:
        """Take a genuine plain datagram; FloorError, and the rest of it is lost, at what no participant may send."""
        if index <= member.index:
            return
        member.index = index
        message = self._message
        at = 0
        while at < len(data):
            at = message.read(data, at, len(data), m.UPLINK_TYPES)
            if message.ssrc != member.ssrc:
                raise m.FloorError("another participant's SSRC")
            if message.type == m.REQUEST:
                self._request(member, max(message.priority, 0), max(message.indicator, 0), now_ms)
            elif message.type == m.RELEASE:
                self._release(member, message.ack, now_ms)
            elif message.type == m.QUEUE_POSITION_REQUEST:
                self._position(member, now_ms)
            elif message.type == m.ACK and message.acked == m.GRANTED and self._holds(member):
                assert self.burst is not None
                self.burst.acked = True

    def voice(self, member: Member | None, ssrc: int, now_ms: int) -> bool:
        """Take a genuine packet of voice; True: it is to be passed on. `member` is None where that is not known."""
        burst = self.burst
        if burst is not None and ssrc == burst.ssrc and member in (None, burst.member):
            burst.voice_ms = now_ms
            burst.acked = True
            burst.packets += 1
            return True
        last = self._last
        if last is not None and ssrc == last.ssrc and now_ms < last.ends_ms and member in (None, last.member):
            return burst is None
        if member is not None and not self._holds(member):
            self._reproach(member, ssrc, now_ms)
        return False

    def _reproach(self, member: Member, ssrc: int, now_ms: int) -> None:
        if member.reproached_at is None or now_ms - member.reproached_at >= _REPROACH_MS:
            member.reproached_at = now_ms
            self._revoke(member, m.REVOKE_NO_PERMISSION, now_ms, repeat=False)
            self.tell(FloorEvent(FloorEventKind.REPROACHED, now_ms, member, ssrc))

    def _request(self, member: Member, asked: int, indicator: int, now_ms: int) -> None:
        priority = min(asked, member.priority)
        queueing = indicator & m.QUEUEING
        indicator = self._allowed(member, indicator)
        member.revoke_cause = 0  # it has heard of the end of its last burst, or asks anew all the same
        if "talk" not in member.rights:
            self._deny(member, m.DENY_RECEIVE_ONLY, now_ms)
            return
        burst = self.burst
        if burst is not None and burst.member is member:
            if self.state == FloorState.PENDING_REVOKE:
                self._end(now_ms, "too long")  # it asks anew: behind those who wait
            elif burst.acked:
                # It knew the SSRC and has started anew: pairs of SSRC and index must not come again.
                self._end(now_ms, "began anew", pass_on=False)
                self._grant(QueuedRequest(member, priority, indicator), now_ms)
                return
            else:
                self._grant_again(now_ms)
                return
            burst = self.burst
        if not indicator & m.EMERGENCY and self._alone(member):
            self._deny(member, m.DENY_ALONE, now_ms)
            return
        waiting = QueuedRequest(member, priority, indicator, now_ms)
        if burst is None:
            self._unqueue(member, now_ms, tell=False)
            self._grant(waiting, now_ms)
        elif self._preempts(waiting, burst):
            self._unqueue(member, now_ms, tell=False)
            self._revoke(burst.member, m.REVOKE_PREEMPTED, now_ms)
            self._end(now_ms, "pre-empted", pass_on=False)
            self._grant(waiting, now_ms)
        elif burst.indicator & m.BROADCAST:
            self._deny(member, m.DENY_RECEIVE_ONLY, now_ms)
        else:
            self._enqueue(waiting, queueing, now_ms)

    def _allowed(self, member: Member, indicator: int) -> int:
        """What the member may claim of the kind of call that it claims."""
        if indicator & m.EMERGENCY and "emergency" in member.rights:
            return m.EMERGENCY
        if indicator & m.BROADCAST and "broadcast" in member.rights:
            return m.BROADCAST
        return m.NORMAL

    def _alone(self, member: Member) -> bool:
        return self.rules.deny_alone and not any(o.present for o in self.members.values() if o is not member)

    def _preempts(self, waiting: QueuedRequest, burst: Burst) -> bool:
        theirs, ours = burst.indicator & m.EMERGENCY, waiting.indicator & m.EMERGENCY
        if ours != theirs:
            return bool(ours)
        return self.rules.preempt and waiting.priority > burst.priority

    def _enqueue(self, waiting: QueuedRequest, queueing: int, now_ms: int) -> None:
        member = waiting.member
        held = next((w for w in self.queue if w.member is member), None)
        if held is not None:
            held.priority, held.indicator = waiting.priority, waiting.indicator
        elif not queueing or not self.rules.queue:
            self._deny(member, m.DENY_TAKEN, now_ms)
            return
        elif len(self.queue) >= self.rules.queue:
            self._deny(member, m.DENY_QUEUE_FULL, now_ms)
            return
        else:
            self.queue.append(waiting)
            self.tell(FloorEvent(FloorEventKind.QUEUED, now_ms, member))
        before = [w.member for w in self.queue]
        self.queue.sort(key=lambda w: w.order)
        for place, w in enumerate(self.queue):
            if w.member is member or before.index(w.member) != place:
                self._say_position(w.member)

    def _release(self, member: Member, ack: bool, now_ms: int) -> None:
        member.revoke_cause = 0
        self._unqueue(member, now_ms)
        w = self._writer
        if ack:
            w.clear()
            w.begin(m.ACK, self.hub_ssrc)
            w.word(m.SOURCE, m.CONTROLLING)
            w.pair(m.MESSAGE_TYPE, m.RELEASE)
            w.end()
            self._out(member)
        if self._holds(member):
            self._end(now_ms, "released")

    def _position(self, member: Member, now_ms: int) -> None:
        if self._holds(member):
            self._grant_again(now_ms)
        else:
            self._say_position(member)

    def _holds(self, member: Member) -> bool:
        return self.burst is not None and self.burst.member is member

    # --- bursts -------------------------------------------------------------------------------------------------------

    def _grant(self, to: QueuedRequest, now_ms: int) -> None:
        talk_ms = self.rules.emergency_ms if to.indicator & m.EMERGENCY else self.rules.talk_ms
        ssrc = self.new_ssrc()
        self.burst = Burst(
            to.member, ssrc, to.priority, to.indicator, now_ms, now_ms + talk_ms, now_ms, granted_at=now_ms
        )
        self.state = FloorState.TAKEN
        self._quiet_at = None
        self._say_granted(now_ms)
        self.sequence = (self.sequence + 1) & 0xFFFF
        self._repeat(now_ms)
        self._to_all()
        self.tell(FloorEvent(FloorEventKind.BEGIN, now_ms, to.member, ssrc, indicator=to.indicator))

    def _grant_again(self, now_ms: int) -> None:
        assert self.burst is not None
        self.burst.grants, self.burst.granted_at = 1, now_ms
        self._say_granted(now_ms)

    def _say_granted(self, now_ms: int) -> None:
        burst = self.burst
        assert burst is not None
        w = self._writer
        w.clear()
        w.begin(m.GRANTED, self.hub_ssrc, True)
        w.word(m.DURATION, max(1, (burst.ends_ms - now_ms) // 1000))
        w.audio_ssrc(burst.ssrc)
        w.pair(m.PRIORITY, burst.priority)
        w.word(m.INDICATOR, burst.indicator | m.QUEUEING)
        w.end()
        self._out(burst.member)

    def _end(self, now_ms: int, why: str, pass_on: bool = True) -> None:
        """End the burst; the queue's head has the floor next, or nobody. Not `pass_on`: the caller sees to that."""
        burst = self.burst
        assert burst is not None
        self.burst = None
        self.state = FloorState.IDLE
        burst.ends_ms = now_ms + _LATE_MS
        self._last = burst
        self.tell(FloorEvent(FloorEventKind.END, now_ms, burst.member, burst.ssrc, why))
        if not pass_on:
            return
        if self.queue:
            head = self.queue.pop(0)
            for w in self.queue:
                self._say_position(w.member)
            self._grant(head, now_ms)
        else:
            self._idle(now_ms)

    def _idle(self, now_ms: int) -> None:
        self.sequence = (self.sequence + 1) & 0xFFFF
        self._repeat(now_ms)
        self._quiet_at = now_ms + T4_MS
        self._to_all()

    def _repeat(self, now_ms: int) -> None:
        self._repeat_at, self._repeats = now_ms + T7_MS, 0

    def _deny(self, member: Member, cause: int, now_ms: int) -> None:
        w = self._writer
        w.clear()
        w.begin(m.DENY, self.hub_ssrc)
        w.word(m.CAUSE, cause)
        w.end()
        self._out(member)
        self.tell(FloorEvent(FloorEventKind.DENIED, now_ms, member, cause=str(cause)))

    def _revoke(self, member: Member, cause: int, now_ms: int, repeat: bool = True) -> None:
        """Tell a member to stop; again (T8) until it says Release or speaks no more of this."""
        if repeat:
            member.revoke_cause, member.revoke_at, member.revokes = cause, now_ms + T8_MS, 1
        w = self._writer
        w.clear()
        w.begin(m.REVOKE, self.hub_ssrc)
        w.word(m.CAUSE, cause)
        w.end()
        self._out(member)

    def _unqueue(self, member: Member, now_ms: int, tell: bool = True) -> None:
        place = next((i for i, w in enumerate(self.queue) if w.member is member), None)
        if place is None:
            return
        del self.queue[place]
        for w in self.queue[place:]:
            self._say_position(w.member)
        if tell:
            self.tell(FloorEvent(FloorEventKind.UNQUEUED, now_ms, member))

    # --- what goes ----------------------------------------------------------------------------------------------------

    def _out(self, member: Member) -> None:
        if member.present:
            self.send(member, bytes(self._buf[: self._writer.n]))

    def _say_position(self, member: Member) -> None:
        place = next((i for i, w in enumerate(self.queue) if w.member is member), None)
        w = self._writer
        w.clear()
        w.begin(m.QUEUE_POSITION_INFO, self.hub_ssrc)
        if place is None:
            w.pair(m.QUEUE_INFO, m.NOT_QUEUED, 0)
        else:
            w.pair(m.QUEUE_INFO, min(place + 1, 253), self.queue[place].priority)
        w.end()
        self._out(member)

    def _write_state(self, member: Member) -> None:
        """Taken or Idle, as `member` is to see it."""
        w = self._writer
        burst = self.burst
        if burst is None:
            w.begin(m.IDLE, self.hub_ssrc)
            w.word(m.SEQUENCE, self.sequence)
            w.word(m.INDICATOR, m.NORMAL)
        else:
            w.begin(m.TAKEN, self.hub_ssrc)
            w.text(m.GRANTED_PARTY, burst.member.user)
            may = "talk" in member.rights and not burst.indicator & m.BROADCAST
            w.word(m.PERMISSION, 1 if may else 0)
            w.word(m.SEQUENCE, self.sequence)
            w.audio_ssrc(burst.ssrc)
            w.word(m.INDICATOR, burst.indicator | m.QUEUEING)
        w.end()

    def _to_all(self) -> None:
        """Idle to everybody, Taken to everybody but the holder."""
        written: dict[bool, bytes] = {}
        holder = self.burst.member if self.burst else None
        for member in self.members.values():
            if member is holder or not member.present:
                continue
            talks = "talk" in member.rights
            if talks not in written:
                self._writer.clear()
                self._write_state(member)
                written[talks] = bytes(self._buf[: self._writer.n])
            self.send(member, written[talks])

    # --- time ---------------------------------------------------------------------------------------------------------

    def poll(self, now_ms: int) -> int | None:
        """Run the timers; return milliseconds until the next one is due, None when none runs."""
        due: list[int] = []
        if self.burst is not None:
            self._poll_burst(self.burst, now_ms)
        if self.burst is not None:
            due += [self.burst.ends_ms, self.burst.voice_ms + T1_MS]
            if not self.burst.acked and self.burst.grants < C20:
                due.append(self.burst.granted_at + T20_MS)
        for member in self.members.values():
            if member.revoke_cause:
                if now_ms >= member.revoke_at:
                    self._poll_revoke(member, now_ms)
                if member.revoke_cause:
                    due.append(member.revoke_at)
        if self._repeats < C7:
            if now_ms >= self._repeat_at:
                self._repeats += 1
                self._repeat_at = now_ms + T7_MS
                self._to_all()
            due.append(self._repeat_at)
        if self._quiet_at is not None:
            if now_ms >= self._quiet_at:
                self._quiet_at = None
                self.tell(FloorEvent(FloorEventKind.QUIET, now_ms, None))
            else:
                due.append(self._quiet_at)
        return max(0, min(due) - now_ms) if due else None

    def _poll_burst(self, burst: Burst, now_ms: int) -> None:
        if now_ms - burst.voice_ms >= T1_MS:
            self._end(now_ms, "silent")
        elif now_ms >= burst.ends_ms:
            if self.state == FloorState.TAKEN:
                self.state = FloorState.PENDING_REVOKE
                burst.ends_ms = now_ms + T3_MS
                self._revoke(burst.member, m.REVOKE_TOO_LONG, now_ms)
            else:
                self._end(now_ms, "too long")
        elif not burst.acked and burst.grants < C20 and now_ms - burst.granted_at >= T20_MS:
            burst.grants += 1
            burst.granted_at = now_ms
            self._say_granted(now_ms)

    def _poll_revoke(self, member: Member, now_ms: int) -> None:
        if member.revokes >= C8:
            member.revoke_cause = 0
            return
        cause, count = member.revoke_cause, member.revokes + 1
        self._revoke(member, cause, now_ms)
        member.revokes = count

    def status(self) -> dict[str, Any]:
        """Return the state as JSON-ready data."""
        burst = self.burst
        return {
            "state": self.state.value,
            "talker": burst.member.name if burst else None,
            "ssrc": burst.ssrc if burst else None,
            "since_ms": burst.began_ms if burst else None,
            "ends_ms": burst.ends_ms if burst else None,
            "emergency": bool(burst and burst.indicator & m.EMERGENCY),
            "broadcast": bool(burst and burst.indicator & m.BROADCAST),
            "queue": [w.member.name for w in self.queue],
            "present": sum(member.present for member in self.members.values()),
            "members": len(self.members),
        }
