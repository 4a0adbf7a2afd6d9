"""A dispatcher's participation in one group: floor requests and RTP packets of its own bursts."""

from typing import Any

from patrolink_protocol import mcptt, participant

from patrolink.core.clock import Clock
from patrolink.hub.dispatch.message_queue import MessageQueue
from patrolink.hub.dispatch.ports import FloorPort
from patrolink.hub.voice.floor_types import Member

MAX_FRAME_BYTES = 480  # of A-law: 60 ms
_PCMA = 8  # RTP payload type
_MARKER = 0x80
_DENY_TEXTS = {
    mcptt.DENY_TAKEN: "another member has the floor",
    mcptt.DENY_INTERNAL: "internal error of the hub",
    mcptt.DENY_ALONE: "no other member is present",
    mcptt.DENY_RECEIVE_ONLY: "only listening is permitted",
    mcptt.DENY_RESOURCES: "the hub has no resources left",
    mcptt.DENY_QUEUE_FULL: "the queue is full",
}
_REVOKE_TEXTS = {
    mcptt.REVOKE_TOO_LONG: "the talk time is over",
    mcptt.REVOKE_NO_PERMISSION: "talking was not permitted",
    mcptt.REVOKE_PREEMPTED: "pre-empted",
}
_END_EVENTS = (
    participant.DENIED,
    participant.REVOKED,
    participant.FAILED,
    participant.ABANDONED,
    participant.RELEASED,
)


class GroupParticipation:
    """Floor participant of a dispatcher in one group.

    Messages cannot be lost between a session and the floor server of the same process. Therefore the participant's
    timers, which repair loss, are not run.

    Args:
        number: The group.
        member: The dispatcher as a member of the group.
        queue: Gets `granted`, `queued`, `denied`, `revoked` and `released`.
    """

    def __init__(self, number: int, member: Member, floor: FloorPort, queue: MessageQueue, clock: Clock) -> None:
        self.member = member
        self._number, self._floor, self._queue, self._clock = number, floor, queue, clock
        self._participant = participant.Participant(member.ssrc, member.mcptt_id)
        self._received = 0  # datagrams
        self._priority, self._indicator = 0, mcptt.NORMAL  # of the last request
        self._sender: _RtpSender | None = None  # of the burst that was granted

    def request(self, priority: int, indicator: int) -> None:
        """Request the floor. A request that differs from the pending or granted one replaces it."""
        now_ms = self._clock.monotonic_ms()
        if self._participant.state in (participant.QUEUED, participant.HAS_PERMISSION):
            if (priority, indicator) == (self._priority, self._indicator):
                self._report(participant.GRANTED if self._sender else participant.QUEUE_POSITION, now_ms)
                return
            self._send(self._withdraw(now_ms))
        self._priority, self._indicator = priority, indicator
        self._carry_out(self._participant.press(now_ms, priority, indicator), now_ms)

    def release(self) -> None:
        """Release the floor, or withdraw the request."""
        now_ms = self._clock.monotonic_ms()
        self._carry_out(self._withdraw(now_ms), now_ms)

    def _withdraw(self, now_ms: int) -> participant.Effects:
        effects: participant.Effects
        if self._participant.state == participant.QUEUED:
            effects = self._participant.cancel(now_ms)
        else:
            effects = self._participant.release(now_ms)
        self._sender = None
        return effects

    def send_audio(self, alaw: bytes) -> bool:
        """Send 1 to MAX_FRAME_BYTES of A-law. Returns False without the floor."""
        if self._sender is None or not 0 < len(alaw) <= MAX_FRAME_BYTES:
            return False
        return self._floor.send_voice(self._sender.ssrc, self._sender.packet(alaw))

    def holds(self, ssrc: int) -> bool:
        """Return True if a burst is the dispatcher's own."""
        return self._sender is not None and self._sender.ssrc == ssrc

    def receive(self, data: bytes) -> None:
        """Process plain floor control messages of the hub."""
        self._received += 1
        now_ms = self._clock.monotonic_ms()
        self._carry_out(self._participant.receive(data, len(data), self._received, now_ms), now_ms)

    def _carry_out(self, effects: participant.Effects, now_ms: int) -> None:
        assert effects.error is None, "the hub's own floor server sends valid messages"
        # Events first: the reply to a datagram arrives before `_send` returns.
        for event in effects.events:
            if event == participant.GRANTED:
                self._sender = _RtpSender(self._participant.audio_ssrc)
            elif event in _END_EVENTS:
                self._sender = None
            self._report(event, now_ms)
        self._send(effects)

    def _send(self, effects: participant.Effects) -> None:
        for datagram in effects.datagrams:
            self._floor.receive_floor(self._number, self.member, datagram)

    def _report(self, event: int, now_ms: int) -> None:
        cause = self._participant.cause
        fields: dict[str, Any]
        if event == participant.GRANTED:
            fields = {"type": "granted", "duration_ms": self._participant.talk_end_ms - now_ms}
        elif event == participant.QUEUE_POSITION:
            fields = {"type": "queued", "position": self._participant.position}
        elif event == participant.DENIED:
            fields = {"type": "denied", "cause": cause, "text": _DENY_TEXTS.get(cause, "")}
        elif event == participant.REVOKED:
            fields = {"type": "revoked", "cause": cause or mcptt.OTHER, "text": _REVOKE_TEXTS.get(cause, "")}
        elif event in _END_EVENTS:
            fields = {"type": "released"}
        else:
            return
        self._queue.put({**fields, "group": self._number})


class _RtpSender:
    """Builds the RTP packets of one burst (RFC 3550 5.1)."""

    def __init__(self, ssrc: int) -> None:
        self.ssrc = ssrc
        self._sequence = self._timestamp = 0

    def packet(self, alaw: bytes) -> bytes:
        """Return the plain packet of the next samples. The first one has the marker bit."""
        header = bytes((0x80, _PCMA if self._sequence else _PCMA | _MARKER))
        header += self._sequence.to_bytes(2, "big") + self._timestamp.to_bytes(4, "big") + self.ssrc.to_bytes(4, "big")
        self._sequence += 1
        self._timestamp += len(alaw)
        return header + alaw
