"""Floor control server of one talk group (3GPP TS 24.380 6.3.4 and 6.3.5).

The machine is pure: time is an argument, and what has to be done is collected as effects that the caller takes after
each call. At any time at most one SSRC of voice is forwarded. A floor message older than the newest one processed is
dropped, because its content was repeated or has been overtaken.
"""

from collections.abc import Callable
from operator import attrgetter

from patrolink_protocol import mcptt

from patrolink.hub.voice.floor_messages import FloorMessageEncoder
from patrolink.hub.voice.floor_types import (
    Burst,
    FloorEffect,
    FloorEvent,
    FloorEventKind,
    FloorMessage,
    FloorRequest,
    FloorRules,
    FloorState,
    Member,
)

T1_MS = 4000  # end of RTP media
T3_MS = 1000  # stop talking grace: from Floor Revoke to the end of the burst
T4_MS = 30_000  # inactivity, reported once
T7_MS, C7 = 1000, 3  # repeats of Floor Idle and Floor Taken; few, because a repeat wakes a sleeping device
T8_MS, C8 = 500, 6  # repeats of Floor Revoke
T20_MS, C20 = 300, 3  # repeats of Floor Granted
_LATE_VOICE_MS = 400  # packets of an ended burst that were under way are forwarded
_NO_PERMISSION_INTERVAL_MS = 1000  # between two Floor Revokes for voice without the floor


class Floor:
    """Floor of one group: state, burst, queue and members.

    Args:
        rules: Talk times, queue length and priorities of the group.
        hub_ssrc: SSRC of the server's messages.
        new_ssrc: (is_emergency) -> an SSRC never used under the group's key. After an OSError, requests are denied.
    """

    def __init__(self, rules: FloorRules, hub_ssrc: int, new_ssrc: Callable[[bool], int]) -> None:
        self.rules = rules
        self.hub_ssrc = hub_ssrc
        self.state = FloorState.IDLE
        self.burst: Burst | None = None
        self.queue: list[FloorRequest] = []
        self.members: dict[int, Member] = {}
        self.sequence = 0
        self._new_ssrc = new_ssrc
        self._effects: list[FloorEffect] = []
        self._ended_burst: Burst | None = None
        self._t7_at_ms = 0
        self._t7_count = 0
        self._t4_at_ms: int | None = None
        self._encoder = FloorMessageEncoder(hub_ssrc)
        self._message = mcptt.Message()

    def take_effects(self) -> list[FloorEffect]:
        """Return the effects since the last call, in order, and forget them."""
        effects, self._effects = self._effects, []
        return effects

    # --- members ------------------------------------------------------------------------------------------------------

    def start(self, now_ms: int) -> None:
        """Enter the idle state and announce it to all members."""
        self._enter_idle(now_ms)

    def join(self, member: Member) -> None:
        """Add a member. It receives messages once it is present."""
        self.members[member.ssrc] = member

    def leave(self, member: Member, now_ms: int) -> None:
        """Remove a member. It loses the floor and its place in the queue."""
        self.members.pop(member.ssrc, None)
        self._unqueue(member, now_ms)
        if self.burst and self.burst.member is member:
            self._end(now_ms, "left")

    def sync(self, member: Member, now_ms: int) -> None:
        """Late entry: mark a member as present and send it the current state, or its grant if it is the holder."""
        member.present = True
        if self._is_holder(member):
            self._repeat_grant(now_ms)
            return
        self._send(member, self._encoder.state(self.burst, self.sequence, member))

    # --- messages and voice -------------------------------------------------------------------------------------------

    def receive(self, member: Member, data: bytes, index: int, now_ms: int) -> None:
        """Process an authenticated plain datagram of a member.

        Args:
            member: The sender.
            data: One or more floor control messages.
            index: SRTCP index. A datagram that is not newer than the last one is ignored.
            now_ms: Current time.

        Raises:
            FloorError: A message that no participant may send. The rest of the datagram is ignored.
        """
        if index <= member.newest_index:
            return
        member.newest_index = index
        message = self._message
        at = 0
        while at < len(data):
            at = message.read(data, at, len(data), mcptt.UPLINK_TYPES)
            if message.ssrc != member.ssrc:
                raise mcptt.FloorError("another participant's SSRC")
            if message.type == mcptt.REQUEST:
                self._request(member, max(message.priority, 0), max(message.indicator, 0), now_ms)
            elif message.type == mcptt.RELEASE:
                self._release(member, message.ack, now_ms)
            elif message.type == mcptt.QUEUE_POSITION_REQUEST:
                self._report_position(member, now_ms)
            elif message.type == mcptt.ACK and message.acked == mcptt.GRANTED and self._is_holder(member):
                assert self.burst is not None
                self.burst.acked = True

    def voice(self, member: Member | None, ssrc: int, now_ms: int) -> bool:
        """Process an authenticated voice packet of a member. Returns True if it is to be forwarded.

        `member` is None if the sender is not known.
        """
        burst = self.burst
        if burst is not None and ssrc == burst.ssrc and member in (None, burst.member):
            burst.voice_ms = now_ms
            burst.acked = True
            burst.packets += 1
            return True
        last = self._ended_burst
        if last is not None and ssrc == last.ssrc and now_ms < last.ends_ms and member in (None, last.member):
            return burst is None
        if member is not None and not self._is_holder(member):
            self._revoke_unpermitted(member, ssrc, now_ms)
        return False

    def _revoke_unpermitted(self, member: Member, ssrc: int, now_ms: int) -> None:
        last_ms = member.no_permission_at_ms
        if last_ms is None or now_ms - last_ms >= _NO_PERMISSION_INTERVAL_MS:
            member.no_permission_at_ms = now_ms
            self._send(member, self._encoder.revoke(mcptt.REVOKE_NO_PERMISSION))
            self._emit(FloorEvent(FloorEventKind.NO_PERMISSION, now_ms, member, ssrc))

    # --- requests and queue -------------------------------------------------------------------------------------------

    def _request(self, member: Member, priority: int, indicator: int, now_ms: int) -> None:
        priority = min(priority, member.max_priority)
        queueing = indicator & mcptt.QUEUEING
        indicator = self._permitted_indicator(member, indicator)
        member.revoke_cause = 0  # a new request ends the repeats of an earlier Floor Revoke
        if "talk" not in member.rights:
            self._deny(member, mcptt.DENY_RECEIVE_ONLY, now_ms)
            return
        request = FloorRequest(member, priority, indicator, now_ms)
        if self._is_holder(member) and self._request_of_holder(request, now_ms):
            return
        if not indicator & mcptt.EMERGENCY and self._is_alone(member):
            self._deny(member, mcptt.DENY_ALONE, now_ms)
            return
        burst = self.burst
        if burst is None:
            self._unqueue(member, now_ms, emit=False)
            self._grant(request, now_ms)
        elif self._preempts(request, burst):
            self._unqueue(member, now_ms, emit=False)
            self._revoke(burst.member, mcptt.REVOKE_PREEMPTED, now_ms)
            self._end(now_ms, "pre-empted", request)
        elif burst.indicator & mcptt.BROADCAST:
            self._deny(member, mcptt.DENY_RECEIVE_ONLY, now_ms)
        else:
            self._enqueue(request, queueing, now_ms)

    def _request_of_holder(self, request: FloorRequest, now_ms: int) -> bool:
        """Process a request of the member that holds the floor. Returns False if it has to be queued like others."""
        assert self.burst is not None
        if self.state == FloorState.PENDING_REVOKE:
            self._end(now_ms, "too long")
            return False
        if self.burst.acked:
            # The member knew the SSRC and has started over. A new SSRC keeps each pair of SSRC and index unique.
            self._end(now_ms, "began anew", request)
        else:
            self._repeat_grant(now_ms)
        return True

    def _permitted_indicator(self, member: Member, indicator: int) -> int:
        """Return the kind of call that was requested, or NORMAL if the member has no right to it."""
        if indicator & mcptt.EMERGENCY and "emergency" in member.rights:
            return mcptt.EMERGENCY
        if indicator & mcptt.BROADCAST and "broadcast" in member.rights:
            return mcptt.BROADCAST
        return mcptt.NORMAL

    def _is_alone(self, member: Member) -> bool:
        return self.rules.deny_alone and not any(o.present for o in self.members.values() if o is not member)

    def _preempts(self, request: FloorRequest, burst: Burst) -> bool:
        current, requested = burst.indicator & mcptt.EMERGENCY, request.indicator & mcptt.EMERGENCY
        if requested != current:
            return bool(requested)
        return self.rules.preempt and request.priority > burst.priority

    def _enqueue(self, request: FloorRequest, queueing: int, now_ms: int) -> None:
        member = request.member
        queued = next((entry for entry in self.queue if entry.member is member), None)
        if queued is not None:
            queued.priority, queued.indicator = request.priority, request.indicator
        elif not queueing or not self.rules.queue:
            self._deny(member, mcptt.DENY_TAKEN, now_ms)
            return
        elif len(self.queue) >= self.rules.queue:
            self._deny(member, mcptt.DENY_QUEUE_FULL, now_ms)
            return
        else:
            self.queue.append(request)
            self._emit(FloorEvent(FloorEventKind.QUEUED, now_ms, member))
        previous = [entry.member for entry in self.queue]
        self.queue.sort(key=attrgetter("queue_key"))
        for position, entry in enumerate(self.queue):
            if entry.member is member or previous.index(entry.member) != position:
                self._send_position(entry.member)

    def _unqueue(self, member: Member, now_ms: int, emit: bool = True) -> None:
        position = self._position(member)
        if position is None:
            return
        del self.queue[position]
        for entry in self.queue[position:]:
            self._send_position(entry.member)
        if emit:
            self._emit(FloorEvent(FloorEventKind.UNQUEUED, now_ms, member))

    def _position(self, member: Member) -> int | None:
        return next((i for i, entry in enumerate(self.queue) if entry.member is member), None)

    def _release(self, member: Member, ack: bool, now_ms: int) -> None:
        member.revoke_cause = 0
        self._unqueue(member, now_ms)
        if ack:
            self._send(member, self._encoder.release_ack())
        if self._is_holder(member):
            self._end(now_ms, "released")

    def _report_position(self, member: Member, now_ms: int) -> None:
        if self._is_holder(member):
            self._repeat_grant(now_ms)
        else:
            self._send_position(member)

    def _is_holder(self, member: Member) -> bool:
        return self.burst is not None and self.burst.member is member

    # --- bursts -------------------------------------------------------------------------------------------------------

    def _grant(self, request: FloorRequest, now_ms: int) -> bool:
        """Grant the idle floor. Returns False if no SSRC could be reserved on storage; then all requests are denied."""
        is_emergency = bool(request.indicator & mcptt.EMERGENCY)
        try:
            ssrc = self._new_ssrc(is_emergency)
        except OSError:
            for entry in (request, *self.queue):
                self._deny(entry.member, mcptt.DENY_RESOURCES, now_ms)
            self.queue.clear()
            return False
        ends_ms = now_ms + (self.rules.emergency_ms if is_emergency else self.rules.talk_ms)
        burst = self.burst = Burst(request.member, ssrc, request.priority, request.indicator, now_ms, ends_ms, now_ms)
        burst.t20_started_ms = now_ms
        self.state = FloorState.TAKEN
        self._t4_at_ms = None
        self._send(burst.member, self._encoder.granted(burst, now_ms))
        self.sequence = (self.sequence + 1) & 0xFFFF
        self._start_t7(now_ms)
        self._send_state_to_all()
        self._emit(FloorEvent(FloorEventKind.BEGIN, now_ms, burst.member, ssrc, indicator=burst.indicator))
        return True

    def _repeat_grant(self, now_ms: int, t20_count: int = 1) -> None:
        burst = self.burst
        assert burst is not None
        burst.t20_count, burst.t20_started_ms = t20_count, now_ms
        self._send(burst.member, self._encoder.granted(burst, now_ms))

    def _end(self, now_ms: int, cause: str, following: FloorRequest | None = None) -> None:
        """End the burst and grant the floor to the following request, which is by default the head of the queue."""
        burst = self.burst
        assert burst is not None
        self.burst = None
        self.state = FloorState.IDLE
        burst.ends_ms = now_ms + _LATE_VOICE_MS
        self._ended_burst = burst
        self._emit(FloorEvent(FloorEventKind.END, now_ms, burst.member, burst.ssrc, cause))
        if following is None and self.queue:
            following = self.queue.pop(0)
            for entry in self.queue:
                self._send_position(entry.member)
        if following is None or not self._grant(following, now_ms):
            self._enter_idle(now_ms)

    def _enter_idle(self, now_ms: int) -> None:
        self.sequence = (self.sequence + 1) & 0xFFFF
        self._start_t7(now_ms)
        self._t4_at_ms = now_ms + T4_MS
        self._send_state_to_all()

    def _start_t7(self, now_ms: int) -> None:
        self._t7_at_ms, self._t7_count = now_ms + T7_MS, 0

    def _deny(self, member: Member, cause: int, now_ms: int) -> None:
        self._send(member, self._encoder.deny(cause))
        self._emit(FloorEvent(FloorEventKind.DENIED, now_ms, member, cause=str(cause)))

    def _revoke(self, member: Member, cause: int, now_ms: int, t8_count: int = 1) -> None:
        """Send Floor Revoke, and start T8 to repeat it until the member answers with Floor Release."""
        member.revoke_cause, member.t8_at_ms, member.t8_count = cause, now_ms + T8_MS, t8_count
        self._send(member, self._encoder.revoke(cause))

    # --- effects ------------------------------------------------------------------------------------------------------

    def _emit(self, event: FloorEvent) -> None:
        self._effects.append(event)

    def _send(self, member: Member, data: bytes) -> None:
        if member.present:
            self._effects.append(FloorMessage(member, data))

    def _send_position(self, member: Member) -> None:
        position = self._position(member)
        if position is None:
            self._send(member, self._encoder.queue_position(None, 0))
        else:
            self._send(member, self._encoder.queue_position(position + 1, self.queue[position].priority))

    def _send_state_to_all(self) -> None:
        """Send Floor Idle to all members, or Floor Taken to all but the holder."""
        encoded: dict[bool, bytes] = {}
        holder = self.burst.member if self.burst else None
        for member in self.members.values():
            if member is holder or not member.present:
                continue
            can_talk = "talk" in member.rights
            if can_talk not in encoded:
                encoded[can_talk] = self._encoder.state(self.burst, self.sequence, member)
            self._send(member, encoded[can_talk])

    # --- timers -------------------------------------------------------------------------------------------------------

    def poll(self, now_ms: int) -> int | None:
        """Process expired timers. Returns milliseconds until the next timer expires; None if none runs."""
        due: list[int] = []
        if self.burst is not None:
            self._poll_burst(self.burst, now_ms)
        if self.burst is not None:
            due += [self.burst.ends_ms, self.burst.voice_ms + T1_MS]
            if not self.burst.acked and self.burst.t20_count < C20:
                due.append(self.burst.t20_started_ms + T20_MS)
        for member in self.members.values():
            if member.revoke_cause:
                self._poll_revoke(member, now_ms)
                if member.revoke_cause:
                    due.append(member.t8_at_ms)
        if self._t7_count < C7:
            if now_ms >= self._t7_at_ms:
                self._t7_count += 1
                self._t7_at_ms = now_ms + T7_MS
                self._send_state_to_all()
            due.append(self._t7_at_ms)
        if self._t4_at_ms is not None:
            if now_ms >= self._t4_at_ms:
                self._t4_at_ms = None
                self._emit(FloorEvent(FloorEventKind.SILENCE, now_ms, None))
            else:
                due.append(self._t4_at_ms)
        return max(0, min(due) - now_ms) if due else None

    def _poll_burst(self, burst: Burst, now_ms: int) -> None:
        if now_ms - burst.voice_ms >= T1_MS:
            self._end(now_ms, "silent")
        elif now_ms >= burst.ends_ms:
            if self.state == FloorState.TAKEN:
                self.state = FloorState.PENDING_REVOKE
                burst.ends_ms = now_ms + T3_MS
                self._revoke(burst.member, mcptt.REVOKE_TOO_LONG, now_ms)
            else:
                self._end(now_ms, "too long")
        elif not burst.acked and burst.t20_count < C20 and now_ms - burst.t20_started_ms >= T20_MS:
            self._repeat_grant(now_ms, burst.t20_count + 1)

    def _poll_revoke(self, member: Member, now_ms: int) -> None:
        if now_ms < member.t8_at_ms:
            return
        if member.t8_count >= C8:
            member.revoke_cause = 0
        else:
            self._revoke(member, member.revoke_cause, now_ms, member.t8_count + 1)
