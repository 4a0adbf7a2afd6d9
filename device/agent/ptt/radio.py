"""Push-to-talk: the groups that the device belongs to, the wearer's keys, and who is heard. Nothing here blocks.

The microphone is open only between key-down and the end of the burst that it asked for, and never without the floor
being ours or asked for: `serve` sees to that whatever else goes wrong, and it closes when `serve` was not called for a
second.
"""

from agent.ptt import floor, sound
from agent.ptt.group import EMERGENCY, PRIVATE, TALK, Group, context
from agent.ptt.keys import KeyRefused, unwrap
from agent.ptt.line import Line
from patrolink_protocol import srtp
from patrolink_protocol.mcptt import EMERGENCY as INDICATES_EMERGENCY
from patrolink_protocol.mcptt import NORMAL, FloorError
from patrolink_protocol.native import const

_TAIL_MS = const(200)  # voice after key-up
_STALL_MS = const(1000)
_DATAGRAMS = const(16)  # taken from one socket in one go
_PACKETS = const(10)  # sent in one go: what was said before the grant goes out at several times its speed
_RTCP_FIRST, _RTCP_LAST = const(192), const(223)
_SHARDS = const(27)

# What became of a press: ptt_burst.outcome.
GRANTED, QUEUED, DENIED, FAILED, ABANDONED, REVOKED = range(6)
_OUTCOMES = {
    floor.DENIED: (DENIED, sound.DENY),
    floor.FAILED: (FAILED, sound.DENY),
    floor.ABANDONED: (ABANDONED, None),
    floor.REVOKED: (REVOKED, sound.REVOKE),
    floor.ENDED: (None, None),
}


class Press:
    """One press of the key, until what became of it is told."""

    def __init__(self, group, indicator, now_ms, ends_ms):
        self.group = group
        self.indicator = indicator
        self.pressed_ms = now_ms
        self.access_ms = None
        self.started_ms = now_ms
        self.outcome = GRANTED
        self.stop_ms = None  # end of the tail
        self.ssrc = 0
        self.ends_ms = ends_ms  # of ambient listening; None for the wearer's own
        self.down = True


class Radio:
    """
    me         (user: MCPTT ID as bytes, unwrapping function of compat.crypto, encrypter of compat.crypto)
    shield     agent.ptt.line.Shield
    udp        function(host, port) -> hal UDP socket
    talker, listener, sound   agent.ptt
    grants     agent.ptt.grants.Grants
    report     function(values of ptt_burst, monotonic ms of the first audio)
    codecs     {payload type: codec}, see hal.opus
    """

    def __init__(self, me, shield, udp, talker, listener, sounds, grants, report, randbelow, log, most_groups, codecs):
        self._user, self._decrypt, self._aes = me
        self._shield = shield
        self._udp = udp
        self._talker = talker
        self._listener = listener
        self._sound = sounds
        self._grants = grants
        self._report = report
        self._randbelow = randbelow
        self._log = log
        self._most = most_groups
        self._codecs = codecs
        self._buf = bytearray(640)
        self.groups = []
        self.lines = []
        self.selected = None
        self._press = None
        self._heard = None  # group
        self._heard_ssrc = self._heard_from = 0
        self._served_ms = 0
        self._now = 0
        self.refused = 0  # datagrams

    # --- groups -----------------------------------------------------------------------------------------------------

    def find(self, number):
        """Return the group of that number, or None."""
        for group in self.groups:
            if group.number == number:
                return group
        return None

    def take_group(self, terms, now_ms):
        """Take a ptt_group message: join, new terms or keys, or leave."""
        group = self.find(terms["group"])
        if not terms["rights"]:
            if group is not None:
                self._leave(group, now_ms)
            return
        if group is None and len(self.groups) >= self._most:
            self._log("ptt: group %d is one more than the %d of this board" % (terms["group"], self._most))
            return
        try:
            rtp = None
            if group is None or terms["key"] != group.key:
                rtp = context(self._aes, *unwrap(self._decrypt, terms["wrapped"]))
        except KeyRefused as e:
            self._log("ptt: the key of group %d is refused: %s" % (terms["group"], e))
            return
        address = (terms["host"], terms["floor_port"], terms["media_port"])
        if group is not None and (terms["ssrc"] != group.floor.ssrc or address != group.line.address):
            rtp = rtp or group.rtp
            self._leave(group, now_ms)
            group = None
        if group is not None:
            group.set(terms)
            if rtp is not None:
                group.rekey(rtp, now_ms)
            return
        self._join(terms, address, rtp, now_ms)

    def _join(self, terms, address, rtp, now_ms):
        line = None
        for it in self.lines:
            if it.address == address:
                line = it
        if line is None:
            line = Line(address, self._udp, self._shield, now_ms)
            self.lines.append(line)
        group = Group(terms, line, rtp, self._user, self._on)
        line.ssrcs.append(group.floor.ssrc)
        line.greet(now_ms)
        self.groups.append(group)
        # The selected one is the wearer's choice, else the foremost where he may talk.
        if self.selected is None and group.rights & TALK and group.kind != PRIVATE:
            self.selected = group
        self._log("ptt: group %d %s" % (group.number, group.name))

    def _leave(self, group, now_ms):
        if self._press is not None and self._press.group is group:
            self._finish(REVOKED, sound.REVOKE)
        if self._heard is group:
            self._end_heard()
        self.groups.remove(group)
        line = group.line
        line.ssrcs.remove(group.floor.ssrc)
        if not line.ssrcs:
            line.close()
            self.lines.remove(line)
        if self.selected is group:
            self.selected = None
            for it in self.groups:
                if it.rights & TALK and it.kind != PRIVATE:
                    self.selected = it
                    break

    # --- the wearer's keys ------------------------------------------------------------------------------------------

    def button(self, line, now_ms):
        """Take a line of the buttons; False when it is none of ours."""
        self._now = now_ms
        word, _, rest = line.partition(b" ")
        if word == b"ptt":
            self._down(self.selected, NORMAL, now_ms)
        elif word == b"emergency":
            self._down(self._for_emergency(), INDICATES_EMERGENCY, now_ms)
        elif word == b"call":
            self._down(self._private(), NORMAL, now_ms)
        elif word == b"ptt-up":
            self._up(now_ms)
        elif word == b"group":
            group = self.find(_number(rest))
            if group is None:
                self._sound.tone(sound.DENY)
            else:
                self.selected = group
        elif word == b"replay":
            if self._press is not None or not self._sound.replay():
                self._sound.tone(sound.DENY)
        else:
            return False
        return True

    def _private(self):
        for group in self.groups:
            if group.kind == PRIVATE and group.rights & TALK:
                return group
        return None

    def _for_emergency(self):
        best = None
        for group in self.groups:
            if group.rights & EMERGENCY and (best is None or group is self.selected or group.rank > best.rank):
                best = group
                if group is self.selected:
                    break
        return best or self.selected

    def _down(self, group, indicator, now_ms):
        press = self._press
        if press is not None:
            again = press.group is group and press.indicator == indicator and press.ends_ms is None
            if press.down and press.ends_ms is None and (again or indicator != INDICATES_EMERGENCY):
                return  # it is down already
            if again:
                press.down = True
                press.stop_ms = None
                group.floor.press(now_ms)
                return
            self._drop(now_ms)
        if group is None or not group.rights & TALK:
            self._sound.tone(sound.DENY)
            return
        self._begin(group, indicator, now_ms)

    def _drop(self, now_ms):
        """End what the key had begun before: the floor, the wish for it, or the place in the queue."""
        machine = self._press.group.floor
        machine.release(now_ms)
        machine.cancel(now_ms)
        if self._press is not None:
            self._finish(ABANDONED, None)

    def _begin(self, group, indicator, now_ms, ends_ms=None):
        """Open the microphone and ask for the floor; False when there is no microphone."""
        self._press = Press(group, indicator, now_ms, ends_ms)
        self._served_ms = now_ms
        self._end_heard()
        self._sound.hush()
        if not self._talker.open():
            self._log("ptt: the microphone cannot be opened")
            self._finish(FAILED, sound.DENY)
            return False
        group.floor.press(now_ms, group.priority, indicator)
        return True

    def _up(self, now_ms):
        press = self._press
        if press is None or not press.down:
            return
        press.down = False
        if press.group.floor.state == floor.HAS_PERMISSION:
            if press.stop_ms is None:
                press.stop_ms = now_ms + _TAIL_MS
        else:
            press.group.floor.release(now_ms)

    def listen_in(self, group, seconds, now_ms):
        """Ambient listening for the station, in the private group, for so many seconds; return why not, or None."""
        if group.kind != PRIVATE:
            return "not a private group"
        if self._press is not None:
            return "the wearer talks"
        if not self._begin(group, NORMAL, now_ms, now_ms + 1000 * seconds):
            return "no microphone"
        return None

    # --- what the floor says ----------------------------------------------------------------------------------------

    def _on(self, group, event):
        press = self._press
        mine = press is not None and press.group is group
        if event == floor.TAKEN:
            if group.taken() and group is self._heard:
                self._end_heard()
        elif event == floor.IDLE:
            group.idle()
        elif not mine:
            if event == floor.GRANTED:
                group.floor.release(self._now)
        elif event == floor.GRANTED:
            self._granted(press)
        elif event in _OUTCOMES:
            outcome, tone = _OUTCOMES[event]
            self._finish(press.outcome if outcome is None else outcome, tone)
        elif event == floor.PLACED:
            press.outcome = QUEUED
            self._talker.close()
            if press.ends_ms is None:
                self._sound.tone(sound.QUEUED)
            else:
                self._drop(self._now)
        elif event == floor.YOUR_TURN:
            self._sound.tone(sound.TURN)
        elif event == floor.WARNING:
            self._sound.tone(sound.LIMIT)

    def _granted(self, press):
        group = press.group
        if not self._grants.take(group.floor.audio_ssrc):
            self._log("ptt: group %d granted an SSRC that was granted before" % group.number)
            group.floor.release(self._now)
            return
        if not self._talker.is_open and not self._talker.open():
            group.floor.release(self._now)
            return
        self._end_heard()
        self._sound.hush()
        press.ssrc = group.floor.audio_ssrc
        before_ms = self._talker.begin(press.ssrc, self._randbelow(32768), self._codec(group))
        if press.access_ms is None:
            press.access_ms = self._now - press.pressed_ms
            press.started_ms = self._now - before_ms
            if press.ends_ms is None:
                self._sound.tone(sound.GRANT)

    def _codec(self, group):
        return self._codecs.get(111) if group.codec else None

    def _finish(self, outcome, tone):
        """The press is over: close the microphone, and tell what became of it."""
        press, self._press = self._press, None
        if self._talker.is_open:
            self._talker.close()
        if tone:
            self._sound.tone(tone)
        packets = self._talker.packets if press.ssrc else 0
        self._report(
            {
                "group": press.group.number,
                "role": 0,
                "outcome": outcome,
                "duration_ms": packets * self._talker.frame_ms,
                "access_ms": None if press.access_ms is None else min(press.access_ms, 65534),
                "packets": min(packets, 65535),
                "lost": 0,
                "ssrc": press.ssrc,
            },
            press.started_ms,
        )

    # --- every turn of the main loop --------------------------------------------------------------------------------

    def serve(self, now_ms):
        """Take what has come, send what is due, say what is to be heard; return milliseconds until more is due."""
        self._now = now_ms
        wait = 1000
        if self._talker.is_open:
            self._listen(now_ms)
        for line in self.lines:
            self._take(line, now_ms)
            wait = min(wait, line.poll(now_ms))
        for group in self.groups:
            due = group.poll(now_ms)
            if due is not None:
                wait = min(wait, due)
        if self._press is not None:
            wait = min(wait, self._talk(now_ms))
        self._served_ms = now_ms
        self._choose(now_ms)
        due = self._sound.serve(now_ms)
        return wait if due is None else min(wait, due)

    def close(self, now_ms):
        """The power goes: give back the floor, and close the microphone."""
        if self._press is not None:
            self._drop(now_ms)
        for line in self.lines:
            line.close()

    def _listen(self, now_ms):
        """Take what the microphone has heard, unless nobody has looked after it for too long."""
        late_ms = now_ms - self._served_ms
        if late_ms > _STALL_MS:
            self._log("ptt: the microphone is closed: it was not looked after for %d ms" % late_ms)
            self._drop(now_ms)
        else:
            self._talker.listen()

    def _talk(self, now_ms):
        """Send what the microphone hears, while the floor is ours; return milliseconds until a deadline."""
        press = self._press
        talker = self._talker
        group = press.group
        if press.ends_ms is not None and now_ms >= press.ends_ms:
            self._drop(now_ms)
            return 0
        state = group.floor.state
        if state not in (floor.PENDING_REQUEST, floor.HAS_PERMISSION):
            if talker.is_open:
                talker.close()
            return 1000
        if state == floor.PENDING_REQUEST:
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

    # --- what comes from the hub ------------------------------------------------------------------------------------

    def _take(self, line, now_ms):
        buf = self._buf
        for _ in range(_DATAGRAMS):
            n = line.floor.recv_into(buf) if line.floor is not None else 0
            if not n:
                break
            self._control(line, n, now_ms)
        for _ in range(_DATAGRAMS):
            n = line.media.recv_into(buf) if line.media is not None else 0
            if not n:
                break
            if n > 12 and _RTCP_FIRST <= buf[1] <= _RTCP_LAST:
                self._control(line, n, now_ms)
            elif n > 12:
                self._voice(line, n, now_ms)

    def _control(self, line, n, now_ms):
        buf = self._buf
        try:
            n = line.open(buf, n, now_ms)
            if buf[1] != 204:
                return
            ssrc = _word(buf, 4)
            for group in self.groups:
                if group.line is line and group.hub_ssrc == ssrc:
                    group.floor.receive(buf, n, line.index, now_ms)
        except (srtp.SrtpError, FloorError):
            self.refused += 1

    def _voice(self, line, n, now_ms):
        buf = self._buf
        ssrc = _word(buf, 8)
        for group in self.groups:
            if group.line is line:
                plain = group.open(buf, n, ssrc, now_ms)
                if plain:
                    self._choose(now_ms)
                    if group is self._heard:
                        self._hear(plain, now_ms)
                    return
        self.refused += 1

    def _hear(self, n, now_ms):
        buf = self._buf
        at = srtp.payload(buf, n)
        kind = buf[1] & 0x7F
        time = _word(buf, 4)
        if kind != 8:
            codec = self._codecs.get(kind)
            if codec is None:
                return
            coded = codec.decode(bytes(buf[at:n]))
            self._listener.put(buf[2] << 8 | buf[3], time // (codec.clock // 8000), coded, 0, len(coded), now_ms)
        else:
            self._listener.put(buf[2] << 8 | buf[3], time, buf, at, n - at, now_ms)

    def _choose(self, now_ms):
        """Hear the group that is to be heard, unless the microphone is open: the way is half duplex."""
        if self._talker.is_open:
            return
        best = self._heard
        most = best.loudness() if best is not None else 0
        for group in self.groups:
            if group.loudness() > most:
                best, most = group, group.loudness()
        if self._heard is not None:
            if best is self._heard and best.voice_ssrc == self._heard_ssrc:
                return
            if not most:
                self._listener.end()
                if self._listener.active:
                    return
            self._end_heard()
        if most:
            self._heard, self._heard_ssrc, self._heard_from = best, best.voice_ssrc, now_ms
            self._listener.begin()
            self._sound.begin()

    def _end_heard(self):
        """Hear no more of this burst, and tell how it was."""
        group, self._heard = self._heard, None
        if group is None:
            return
        listener = self._listener
        listener.stop()
        if not listener.packets:
            return
        self._report(
            {
                "group": group.number,
                "role": 1,
                "outcome": GRANTED,
                "duration_ms": listener.played * 10,
                "packets": min(listener.expected, 65535),
                "lost": min(max(listener.expected - listener.packets, 0), 65535),
                "jitter_ms": min(listener.jitter >> 7, 65534),
                "ssrc": self._heard_ssrc,
            },
            self._heard_from,
        )


def _word(buf, at):
    return buf[at] << 24 | buf[at + 1] << 16 | buf[at + 2] << 8 | buf[at + 3]


def _number(text):
    try:
        return int(text)
    except ValueError:
        return -1
