"""A dispatcher's participation in one group: floor requests and RTP packets of its own bursts."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from patrolink_protocol import mcptt, participant, srtp

from patrolink.core.clock import Clock
from patrolink.hub.dispatch.message_queue import MessageQueue
from patrolink.hub.dispatch.messages import VoiceFrame
from patrolink.hub.dispatch.voice_receiver import VoiceReceiver
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.voice.dispatcher_terms import DispatcherTerms

MAX_FRAME_BYTES = 480  # of A-law: 60 ms
_PCMA = 8  # RTP payload type
_MARKER = 0x80
_SAMPLES_PER_MS = 8
_MAX_AHEAD_MS = 1000  # of voice that is sent faster than it was spoken
_MAX_PACKETS_PER_S = 100
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
_REQUESTED = (participant.PENDING_REQUEST, participant.QUEUED, participant.HAS_PERMISSION)


class ParticipantLink(Protocol):
    """Connection of a dispatcher's session to the hub's voice: HubLink."""

    def send_floor(self, data: bytes) -> None:
        """Send plain floor control messages."""

    def send_voice(self, packet: memoryview) -> None:
        """Send an SRTP packet."""


class GroupParticipation:
    """Floor participant of a dispatcher in one group, and its voice.

    Args:
        number: The group.
        on_end: Called with the number when the group has ended.
        queue: Gets voice, and `granted`, `queued`, `denied`, `revoked` and `released`.

    Attributes:
        ssrc: SSRC of the floor messages.
    """

    def __init__(
        self,
        number: int,
        terms: DispatcherTerms,
        link: ParticipantLink,
        receiver: VoiceReceiver,
        on_end: Callable[[int], None],
        queue: MessageQueue,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.ssrc = terms.ssrc
        self._number, self._link, self._receiver = number, link, receiver
        self._on_end, self._queue = on_end, queue
        self._clock, self._metrics = clock, metrics
        self._participant = participant.Participant(terms.ssrc, terms.mcptt_id)
        self._timer: asyncio.TimerHandle | None = None
        self._priority, self._indicator = 0, mcptt.NORMAL  # of the last request
        self._sender: _RtpSender | None = None  # of the burst that was granted
        self._talker_ssrc, self._talker = 0, ""  # of the newest burst of another member; late packets follow its end
        self._is_first_packet = True

    # --- user -------------------------------------------------------------------------------------------------------

    def request(self, priority: int, indicator: int) -> None:
        """Request the floor. A request that differs from the pending or granted one replaces it."""
        now_ms = self._clock.monotonic_ms()
        if self._participant.state in _REQUESTED:
            if (priority, indicator) == (self._priority, self._indicator):
                self._report_again(now_ms)
                return
            self._send(self._withdraw(now_ms))
        self._priority, self._indicator = priority, indicator
        self._carry_out(self._participant.press(now_ms, priority, indicator), now_ms)

    def _report_again(self, now_ms: int) -> None:
        if self._participant.state == participant.QUEUED:
            self._report(participant.QUEUE_POSITION, now_ms)
        elif self._participant.state == participant.HAS_PERMISSION:
            self._report(participant.GRANTED, now_ms)

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
        """Send 1 to MAX_FRAME_BYTES of A-law. Returns False without the floor, or faster than one can speak."""
        if self._sender is None or not 0 < len(alaw) <= MAX_FRAME_BYTES:
            return False
        packet = self._sender.packet(alaw, self._receiver.context(self._number), self._clock.monotonic_ms())
        if packet is None:
            self._metrics.refused["dispatcher flood"] += 1
            return False
        self._link.send_voice(packet)
        return True

    def interrupt(self) -> None:
        """Report the end of a burst or request, because the voice of the hub has ended."""
        text = "the hub's voice was interrupted; request the floor again"
        if self._participant.state == participant.HAS_PERMISSION:
            self._queue.put({"type": "revoked", "cause": mcptt.OTHER, "text": text, "group": self._number})
        elif self._participant.state in _REQUESTED:
            self._queue.put({"type": "denied", "cause": mcptt.OTHER, "text": text, "group": self._number})

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- hub --------------------------------------------------------------------------------------------------------

    def receive(self, buf: bytearray, n: int, index: int) -> None:
        """Process the plain floor control datagram buf[:n] of the hub, with its SRTCP index."""
        now_ms = self._clock.monotonic_ms()
        self._carry_out(self._participant.receive(buf, n, index, now_ms), now_ms)

    def voice_received(self, ssrc: int, timestamp: int, alaw: bytes) -> None:
        """Deliver voice of the group, except the dispatcher's own; see VoiceListener."""
        if ssrc != self._talker_ssrc:
            return
        if ssrc == self._participant.talker_ssrc:
            self._participant.media_received(self._clock.monotonic_ms())
        self._queue.put(VoiceFrame(self._number, self._talker, ssrc, self._is_first_packet, timestamp, alaw))
        self._is_first_packet = False

    def group_ended(self) -> None:
        """Forget the group, which has ended; see VoiceListener."""
        self._on_end(self._number)

    # --- effects ----------------------------------------------------------------------------------------------------

    def _carry_out(self, effects: participant.Effects, now_ms: int) -> None:
        if effects.error is not None:
            self._metrics.refused["floor message"] += 1
        for event in effects.events:
            if event == participant.TAKEN:
                self._burst_began(self._participant.talker_ssrc, _name(self._participant.talker))
            elif event == participant.GRANTED:
                self._sender = _RtpSender(self._participant.audio_ssrc, now_ms)
            elif event in _END_EVENTS:
                self._sender = None
            self._report(event, now_ms)
        self._send(effects)
        self._set_timer(now_ms)

    def _burst_began(self, ssrc: int, talker: str) -> None:
        if ssrc != self._talker_ssrc:
            self._talker_ssrc, self._talker, self._is_first_packet = ssrc, talker, True
            self._receiver.burst_began(self._number, ssrc)

    def _send(self, effects: participant.Effects) -> None:
        for datagram in effects.datagrams:
            self._link.send_floor(datagram)

    def _set_timer(self, now_ms: int) -> None:
        self.close()
        wait_ms = self._participant.next_timer_ms(now_ms)
        if wait_ms is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(wait_ms, 1) / 1000, self._on_timer)

    def _on_timer(self) -> None:
        now_ms = self._clock.monotonic_ms()
        self._carry_out(self._participant.poll(now_ms), now_ms)

    def _report(self, event: int, now_ms: int) -> None:
        cause = self._participant.cause
        fields: dict[str, Any]
        if event == participant.GRANTED:
            fields = {"type": "granted", "duration_ms": self._participant.talk_end_ms - now_ms}
        elif event == participant.QUEUE_POSITION:
            fields = {"type": "queued", "position": self._participant.position}
        elif event == participant.DENIED:
            fields = {"type": "denied", "cause": cause, "text": _DENY_TEXTS.get(cause, "")}
        elif event == participant.FAILED:
            fields = {"type": "denied", "cause": mcptt.OTHER, "text": "the floor control server does not answer"}
        elif event == participant.REVOKED:
            fields = {"type": "revoked", "cause": cause or mcptt.OTHER, "text": _REVOKE_TEXTS.get(cause, "")}
        elif event in _END_EVENTS:
            fields = {"type": "released"}
        else:
            return
        self._queue.put({**fields, "group": self._number})


def _name(mcptt_id: bytes) -> str:
    """Return the name of a device or dispatcher from its MCPTT ID, `sip:NAME@SITE`."""
    return mcptt_id.decode(errors="replace").removeprefix("sip:").rpartition("@")[0]


class _RtpSender:
    """Builds the SRTP packets of one burst (RFC 3550 5.1)."""

    def __init__(self, ssrc: int, now_ms: int) -> None:
        self._ssrc, self._began_ms = ssrc, now_ms
        self._index = self._timestamp = 0
        self._buf = bytearray(srtp.RTP_HEADER_BYTES + MAX_FRAME_BYTES + srtp.TAG_BYTES)

    def packet(self, alaw: bytes, context: srtp.SrtpTransform, now_ms: int) -> memoryview | None:
        """Return the packet of the next samples, valid until the next call; None if the sender is too fast.

        The first packet has the marker bit.
        """
        spoken_ms = now_ms - self._began_ms + _MAX_AHEAD_MS
        if self._timestamp > spoken_ms * _SAMPLES_PER_MS or self._index > spoken_ms * _MAX_PACKETS_PER_S // 1000:
            return None
        buf, start = self._buf, srtp.RTP_HEADER_BYTES
        buf[0], buf[1] = 0x80, _PCMA if self._index else _PCMA | _MARKER
        buf[2:4] = (self._index & 0xFFFF).to_bytes(2, "big")
        buf[4:8] = (self._timestamp & 0xFFFFFFFF).to_bytes(4, "big")
        buf[8:12] = self._ssrc.to_bytes(4, "big")
        buf[start : start + len(alaw)] = alaw
        n = context.protect(buf, start + len(alaw), self._index >> 16)
        self._index += 1
        self._timestamp += len(alaw)
        return memoryview(buf)[:n]
