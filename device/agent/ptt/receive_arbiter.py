"""Selects the group whose media is played: the one of the highest rank, none while the microphone is open."""

import patrolink_enums as enums
from patrolink_protocol import srtp


class ReceiveArbiter:
    """Plays the media of one group at a time and reports every burst.

    Args:
        jitter_buffer: JitterBuffer.
        sounds: Playback.
        codecs: {RTP payload type: object with clock and decode(bytes) -> A-law}, beyond A-law.
        report: function(values of ptt_burst, monotonic ms of the first packet).

    Attributes:
        group: TalkGroup that is played, None without one.
    """

    def __init__(self, jitter_buffer, sounds, codecs, report):
        self._jitter_buffer = jitter_buffer
        self._sounds = sounds
        self._codecs = codecs
        self._report = report
        self.group = None
        self._ssrc = self._started_ms = 0

    def select(self, groups, now_ms):
        """Switch to the group of the highest rank that receives media. The current one keeps its place in a tie."""
        best = self.group
        priority = best.receive_priority() if best is not None else 0
        for group in groups:
            if group.receive_priority() > priority:
                best, priority = group, group.receive_priority()
        if self.group is not None:
            if best is self.group and best.voice_ssrc == self._ssrc:
                return
            if not priority:
                self._jitter_buffer.end_burst()
                if self._jitter_buffer.active:
                    return
            self.end_burst()
        if priority:
            self.group, self._ssrc, self._started_ms = best, best.voice_ssrc, now_ms
            self._jitter_buffer.start_burst()
            self._sounds.start_burst()

    def receive(self, buf, n, now_ms):
        """Pass the plain RTP packet buf[:n] of the current group to the jitter buffer."""
        at = srtp.payload_offset(buf, n)
        payload_type = buf[1] & 0x7F
        sequence = buf[2] << 8 | buf[3]
        timestamp = buf[4] << 24 | buf[5] << 16 | buf[6] << 8 | buf[7]
        if payload_type != 8:
            codec = self._codecs.get(payload_type)
            if codec is None:
                return
            buf = codec.decode(bytes(buf[at:n]))
            at, n = 0, len(buf)
            timestamp //= codec.clock // 8000
        self._jitter_buffer.put(sequence, timestamp, buf, at, n - at, now_ms)

    def on_group_left(self, group):
        """Stop playing `group`, of which the device is no longer a member."""
        if self.group is group:
            self.end_burst()

    def end_burst(self):
        """Stop playing the current burst and report it."""
        group, self.group = self.group, None
        if group is None:
            return
        jitter_buffer = self._jitter_buffer
        jitter_buffer.stop()
        if not jitter_buffer.packets:
            return
        values = {
            "group": group.number,
            "role": enums.PTT_BURST_ROLE_HEARD,
            "outcome": enums.PTT_BURST_OUTCOME_GRANTED,
            "duration_ms": jitter_buffer.played * 10,
            "packets": min(jitter_buffer.expected, 65535),
            "lost": min(max(jitter_buffer.expected - jitter_buffer.packets, 0), 65535),
            "jitter_ms": min(jitter_buffer.jitter >> 7, 65534),
            "ssrc": self._ssrc,
        }
        self._report(values, self._started_ms)
