"""Who is heard: of several groups that speak at once the foremost, and nobody while the microphone is open."""

from patrolink_protocol import srtp


class Hearing:
    """
    listener, sound   agent.ptt
    codecs   {RTP payload type: object with clock, decode(bytes) -> A-law}: what is heard beyond A-law
    report   function(values of ptt_burst, monotonic ms of the first audio)
    """

    def __init__(self, listener, sound, codecs, report):
        self._listener = listener
        self._sound = sound
        self._codecs = codecs
        self._report = report
        self.group = None
        self._ssrc = self._from_ms = 0

    def choose(self, groups, now_ms):
        """Hear the group that is to be heard."""
        best = self.group
        most = best.loudness() if best is not None else 0
        for group in groups:
            if group.loudness() > most:
                best, most = group, group.loudness()
        if self.group is not None:
            if best is self.group and best.voice_ssrc == self._ssrc:
                return
            if not most:
                self._listener.end()
                if self._listener.active:
                    return
            self.end()
        if most:
            self.group, self._ssrc, self._from_ms = best, best.voice_ssrc, now_ms
            self._listener.begin()
            self._sound.begin()

    def take(self, buf, n, now_ms):
        """Take a plain packet of the group that is heard."""
        at = srtp.payload(buf, n)
        kind = buf[1] & 0x7F
        sequence = buf[2] << 8 | buf[3]
        time = buf[4] << 24 | buf[5] << 16 | buf[6] << 8 | buf[7]
        if kind != 8:
            codec = self._codecs.get(kind)
            if codec is None:
                return
            buf = codec.decode(bytes(buf[at:n]))
            at, n = 0, len(buf)
            time //= codec.clock // 8000
        self._listener.put(sequence, time, buf, at, n - at, now_ms)

    def end(self):
        """Hear no more of this burst, and tell how it was."""
        group, self.group = self.group, None
        if group is None:
            return
        listener = self._listener
        listener.stop()
        if not listener.packets:
            return
        values = {
            "group": group.number,
            "role": 1,
            "outcome": 0,
            "duration_ms": listener.played * 10,
            "packets": min(listener.expected, 65535),
            "lost": min(max(listener.expected - listener.packets, 0), 65535),
            "jitter_ms": min(listener.jitter >> 7, 65534),
            "ssrc": self._ssrc,
        }
        self._report(values, self._from_ms)
