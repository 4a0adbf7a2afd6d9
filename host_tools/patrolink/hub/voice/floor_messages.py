"""Encodes the floor control messages that a hub sends (3GPP TS 24.380 8.2)."""

from patrolink_protocol import mcptt

from patrolink.hub.voice.floor_types import Burst, Member

_MAX_POSITION = 253  # 254 and 255 have meanings of their own (8.2.3.5)


class FloorMessageEncoder:
    """Encodes messages of one group's floor control server.

    Args:
        hub_ssrc: SSRC of the server in this group.
    """

    def __init__(self, hub_ssrc: int) -> None:
        self.hub_ssrc = hub_ssrc
        self._buf = bytearray(512)
        self._writer = mcptt.Writer(self._buf)

    def granted(self, burst: Burst, now_ms: int) -> bytes:
        """Return a Floor Granted for the holder of a burst. It requests an acknowledgement."""
        writer = self._begin(mcptt.GRANTED, ack_required=True)
        writer.word(mcptt.DURATION, max(1, (burst.ends_ms - now_ms) // 1000))
        writer.audio_ssrc(burst.ssrc)
        writer.pair(mcptt.PRIORITY, burst.priority)
        writer.word(mcptt.INDICATOR, burst.indicator | mcptt.QUEUEING)
        return self._end()

    def taken(self, burst: Burst, sequence: int, can_talk: bool) -> bytes:
        """Return a Floor Taken for a member that does not hold the floor."""
        writer = self._begin(mcptt.TAKEN)
        writer.text(mcptt.GRANTED_PARTY, burst.member.mcptt_id)
        may_request = can_talk and not burst.indicator & mcptt.BROADCAST
        writer.word(mcptt.PERMISSION, 1 if may_request else 0)
        writer.word(mcptt.SEQUENCE, sequence)
        writer.audio_ssrc(burst.ssrc)
        writer.word(mcptt.INDICATOR, burst.indicator | mcptt.QUEUEING)
        return self._end()

    def idle(self, sequence: int) -> bytes:
        """Return a Floor Idle."""
        writer = self._begin(mcptt.IDLE)
        writer.word(mcptt.SEQUENCE, sequence)
        writer.word(mcptt.INDICATOR, mcptt.NORMAL)
        return self._end()

    def state(self, burst: Burst | None, sequence: int, member: Member) -> bytes:
        """Return the Floor Taken or Floor Idle that describes the current state to a member."""
        return self.idle(sequence) if burst is None else self.taken(burst, sequence, "talk" in member.rights)

    def deny(self, cause: int) -> bytes:
        """Return a Floor Deny with a cause of 8.2.6.2."""
        self._begin(mcptt.DENY).word(mcptt.CAUSE, cause)
        return self._end()

    def revoke(self, cause: int) -> bytes:
        """Return a Floor Revoke with a cause of 8.2.10.2."""
        self._begin(mcptt.REVOKE).word(mcptt.CAUSE, cause)
        return self._end()

    def queue_position(self, position: int | None, priority: int) -> bytes:
        """Return a Floor Queue Position Info. `position` counts from 1; None: not queued."""
        writer = self._begin(mcptt.QUEUE_POSITION_INFO)
        if position is None:
            writer.pair(mcptt.QUEUE_INFO, mcptt.NOT_QUEUED, 0)
        else:
            writer.pair(mcptt.QUEUE_INFO, min(position, _MAX_POSITION), priority)
        return self._end()

    def release_ack(self) -> bytes:
        """Return the Floor Ack of a Floor Release."""
        writer = self._begin(mcptt.ACK)
        writer.word(mcptt.SOURCE, mcptt.CONTROLLING)
        writer.pair(mcptt.MESSAGE_TYPE, mcptt.RELEASE)
        return self._end()

    def _begin(self, message_type: int, ack_required: bool = False) -> mcptt.Writer:
        self._writer.clear()
        self._writer.begin(message_type, self.hub_ssrc, ack_required)
        return self._writer

    def _end(self) -> bytes:
        return bytes(self._buf[: self._writer.end()])
