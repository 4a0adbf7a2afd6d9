"""The wearer's key and the microphone: from a press to what became of it.

The microphone is open only between a press and the end of the burst that it asked for, and never without the floor
being ours or asked for: `talk` sees to that whatever else goes wrong, and `listen` when nobody has looked after it for
a second.
"""

from agent.ptt import participant, playback
from agent.ptt.talk_group import PRIVATE, TALK
from patrolink_protocol.mcptt import EMERGENCY, NORMAL
from patrolink_protocol.native import const

_TAIL_MS = const(200)  # voice after key-up
_STALL_MS = const(1000)
_PACKETS = const(10)  # sent in one go: what was said before the grant goes out at several times its speed

# What became of a press: ptt_burst.outcome.
GRANTED, QUEUED, DENIED, FAILED, ABANDONED, REVOKED = range(6)
_OUTCOMES = {
    participant.DENIED: (DENIED, playback.DENY),
    participant.FAILED: (FAILED, playback.DENY),
    participant.ABANDONED: (ABANDONED, None),
    participant.REVOKED: (REVOKED, playback.REVOKE),
    participant.ENDED: (None, None),
}


class Press:
    """One press of the key, until what became of it is told."""

    def __init__(self, group, indicator, now_ms, ends_ms):
        self.group = group
        self.indicator = indicator
        self.pressed_ms = self.started_ms = now_ms
        self.access_ms = None
        self.outcome = GRANTED
        self.stop_ms = None  # end of the tail
        self.ssrc = 0
        self.ends_ms = ends_ms  # of ambient listening; None for the wearer's own
        self.down = True


class Speaking:
    """
    talker, sounds, hearing   agent.ptt
    grants    agent.ptt.grant_log.Grants
    codec     what a group that wants Opus gets; None: A-law all the same
    report    function(values of ptt_burst, monotonic ms of the first audio)
    """

    def __init__(self, talker, sounds, hearing, grants, codec, report, randbelow, log):
        self._talker = talker
        self._sound = sounds
        self._hearing = hearing
        self._grants = grants
        self._codec = codec
        self._report = report
        self._randbelow = randbelow
        self._log = log
        self.press = None
        self.fault = False  # the microphone could not be opened when it was wanted last
        self._now = self._served_ms = 0

    def is_open(self):
        """Whether the microphone is open."""
        return self._talker.is_open

    def down(self, group, indicator, now_ms):
        """The key is down for a group; None is none."""
        self._now = now_ms
        press = self.press
        if press is not None:
            again = press.group is group and press.indicator == indicator and press.ends_ms is None
            if press.down and press.ends_ms is None and (again or indicator != EMERGENCY):
                return  # it is down already
            if again:
                press.down = True
                press.stop_ms = None
                group.floor.press(now_ms)
                return
            self.drop(now_ms)
        if group is None or not group.rights & TALK:
            self._sound.tone(playback.DENY)
        else:
            self._begin(Press(group, indicator, now_ms, None), now_ms)

    def up(self, now_ms):
        """The key is up."""
        self._now = now_ms
        press = self.press
        if press is None or not press.down or press.ends_ms is not None:
            return
        press.down = False
        if press.group.floor.state == participant.HAS_PERMISSION:
            if press.stop_ms is None:
                press.stop_ms = now_ms + _TAIL_MS
        else:
            press.group.floor.release(now_ms)

    def drop(self, now_ms):
        """End what was begun: the floor, the wish for it, or the place in the queue."""
        self._now = now_ms
        machine = self.press.group.floor
        machine.release(now_ms)
        machine.cancel(now_ms)
        if self.press is not None:
            self.finish(ABANDONED, None)

    def listen_in(self, group, seconds, now_ms):
        """Ambient listening for the station, in the private group, for so many seconds; return why not, or None."""
        self._now = now_ms
        if group.kind != PRIVATE:
            return "not a private group"
        if self.press is not None:
            return "the wearer talks"
        if not self._begin(Press(group, NORMAL, now_ms, now_ms + 1000 * seconds), now_ms):
            return "no microphone"
        return None

    def _begin(self, press, now_ms):
        """Open the microphone and ask for the floor; False when there is no microphone."""
        self.press = press
        self._served_ms = now_ms
        if not self._open():
            self.finish(FAILED, playback.DENY)
            return False
        press.group.floor.press(now_ms, press.group.priority, press.indicator)
        return True

    def _open(self):
        """Open the microphone, and hear nothing: the way is half duplex."""
        self._hearing.end()
        self._sound.hush()
        self.fault = not self._talker.open()
        return not self.fault

    def on(self, event, now_ms):
        """Take what the floor of the press's group tells."""
        self._now = now_ms
        press = self.press
        if event == participant.GRANTED:
            self._granted(press)
        elif event in _OUTCOMES:
            outcome, tone = _OUTCOMES[event]
            self.finish(press.outcome if outcome is None else outcome, tone)
        elif event == participant.PLACED:
            press.outcome = QUEUED
            self._talker.close()
            if press.ends_ms is None:
                self._sound.tone(playback.QUEUED)
            else:
                self.drop(now_ms)
        elif event == participant.YOUR_TURN:
            self._sound.tone(playback.TURN)
        elif event == participant.WARNING:
            self._sound.tone(playback.LIMIT)

    def _granted(self, press):
        group = press.group
        if not self._grants.take(group.floor.audio_ssrc):
            self._log("ptt: group %d granted an SSRC that was granted before" % group.number)
            group.floor.release(self._now)
            return
        if not self._talker.is_open and not self._open():
            group.floor.release(self._now)
            return
        press.ssrc = group.floor.audio_ssrc
        codec = self._codec if group.codec else None
        before_ms = self._talker.begin(press.ssrc, self._randbelow(32768), codec)
        if press.access_ms is None:
            press.access_ms = self._now - press.pressed_ms
            press.started_ms = self._now - before_ms
            if press.ends_ms is None:
                self._sound.tone(playback.GRANT)

    def finish(self, outcome, tone):
        """The press is over: close the microphone, and tell what became of it."""
        press, self.press = self.press, None
        if self._talker.is_open:
            self._talker.close()
        if tone:
            self._sound.tone(tone)
        packets = self._talker.packets if press.ssrc else 0
        values = {
            "group": press.group.number,
            "role": 0,
            "outcome": outcome,
            "duration_ms": packets * self._talker.frame_ms,
            "access_ms": None if press.access_ms is None else min(press.access_ms, 65534),
            "packets": min(packets, 65535),
            "lost": 0,
            "ssrc": press.ssrc,
        }
        self._report(values, press.started_ms)

    def listen(self, now_ms):
        """Take what the microphone has heard, unless nobody has looked after it for too long."""
        late_ms = now_ms - self._served_ms
        self._served_ms = now_ms
        if not self._talker.is_open:
            return
        if late_ms > _STALL_MS:
            self._log("ptt: the microphone is closed: it was not looked after for %d ms" % late_ms)
            self.drop(now_ms)
        else:
            self._talker.listen()

    def talk(self, now_ms):
        """Send what the microphone hears, while the floor is ours; return milliseconds until a deadline."""
        self._now = now_ms
        press = self.press
        talker = self._talker
        group = press.group
        if press.ends_ms is not None and now_ms >= press.ends_ms:
            self.drop(now_ms)
            return 0
        state = group.floor.state
        if state not in (participant.PENDING_REQUEST, participant.HAS_PERMISSION):
            if talker.is_open:
                talker.close()
            return 1000
        if state == participant.PENDING_REQUEST:
            return 1000
        if press.ssrc != group.floor.audio_ssrc:
            self._granted(press)  # the hub has begun another burst for us
            return 0
        over = press.stop_ms is not None and now_ms >= press.stop_ms
        for _ in range(_PACKETS):
            if not talker.next(over):
                break
            group.line.send(talker.view(group.rtp.protect(talker.packet, talker.n, 0)))
        else:
            return 0
        if over:
            group.floor.release(now_ms)
            return 0
        return 1000 if press.stop_ms is None else press.stop_ms - now_ms
