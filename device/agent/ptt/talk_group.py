"""One talk group as the device belongs to it: its terms, its keys, its floor, and the voice that comes in it."""

from agent.ptt import participant
from patrolink_protocol import mcptt, srtp
from patrolink_protocol.native import const

LISTEN, TALK, EMERGENCY, BROADCAST = 1, 2, 4, 8  # rights
PRIVATE = 1  # kind
_OLD_KEY_MS = const(10000)
_LATE_MS = const(400)  # voice that was under way when the hub said Idle
_EARLY_MS = const(2000)  # voice whose Taken got lost: it is said again after a second
_PACKET = const(512)  # longest that is opened
_SHARD = const(27)  # bits of an SSRC's counter; the rest is its shard


class Group:
    """
    terms  a ptt_group message
    line   agent.ptt.hub_link.Line to its hub
    rtp    srtp.Rtp under its key
    user   our MCPTT ID, bytes
    tell   function(group, event of floor)
    """

    def __init__(self, terms, line, rtp, user, tell):
        self.number = terms["group"]
        self.line = line
        self.rtp = rtp
        self._old = None
        self._old_until = 0
        self.floor = participant.Participant(terms["ssrc"], user, line.say, lambda event: tell(self, event))
        self._stream, self._spare = srtp.Stream(), srtp.Stream()
        self.voice_ssrc = 0  # of the burst that is on
        self._last_ssrc = 0
        self._early_until = None
        self._late_until = 0
        self.set(terms)

    def set(self, terms):
        """Take new terms; those that another key or another hub come with are the caller's matter."""
        self.kind = terms["kind"]
        self.rights = terms["rights"]
        self.priority = terms["priority"]
        self.rank = terms["rank"]
        self.codec = terms["codec"]
        self.hub_ssrc = terms["hub_ssrc"]
        self.key = terms["key"]
        self.name = terms["name"]

    def rekey(self, rtp, now_ms):
        """Another key from now on; voice under the one before is heard for 10 s more."""
        self._old, self._old_until = self.rtp, now_ms + _OLD_KEY_MS
        self.rtp = rtp

    def loudness(self):
        """Who is heard where several speak: the highest; 0 while nobody does."""
        if not self.voice_ssrc or not self.rights & LISTEN:
            return 0
        return 1 + self.rank + (256 if self.floor.indicator & mcptt.EMERGENCY else 0)

    def taken(self):
        """The hub says who speaks. True when it is another burst than before."""
        self._early_until = None
        if self.floor.talker_ssrc == self.voice_ssrc:
            return False
        self._begin(self.floor.talker_ssrc)
        return True

    def _begin(self, ssrc):
        self.voice_ssrc = self._last_ssrc = ssrc
        self._stream, self._spare = self._spare, self._stream
        self._spare.reset()

    def idle(self, now_ms):
        """Nobody speaks."""
        self.voice_ssrc = 0
        self._early_until = None
        self._late_until = now_ms + _LATE_MS

    def poll(self, now_ms):
        """Run the timers; return milliseconds until the next one is due, or None."""
        if self._old is not None and now_ms >= self._old_until:
            self._old = None
        if self._early_until is not None and now_ms >= self._early_until:
            self.idle(now_ms)
        return self.floor.poll(now_ms)

    def open(self, buf, n, ssrc, now_ms):
        """Open a packet of voice; return its plain length, 0 when it is none of this group's, or not a new one.

        Voice may be here before the hub's Taken. It is taken if it is genuine and of no burst that was here before.
        """
        if not self.voice_ssrc and ssrc == self._last_ssrc and now_ms < self._late_until:
            return self._try(buf, n, self._stream, now_ms)
        if ssrc == self.voice_ssrc:
            n = self._try(buf, n, self._stream, now_ms)
        elif self.voice_ssrc or ssrc >> _SHARD == self._last_ssrc >> _SHARD and ssrc <= self._last_ssrc:
            return 0
        else:
            n = self._try(buf, n, self._spare, now_ms)
            if n:
                self._begin(ssrc)
                self._early_until = now_ms + _EARLY_MS
        if n:
            self.floor.heard(now_ms)
        return n

    def _try(self, buf, n, stream, now_ms):
        for rtp in (self.rtp, self._old):
            if rtp is not None:
                try:
                    return rtp.open(buf, n, stream)
                except srtp.SrtpError:
                    pass
        return 0


def context(aes, key, salt):
    """Return the srtp.Rtp of a group's key."""
    return srtp.Rtp(aes, key, salt, _PACKET)
