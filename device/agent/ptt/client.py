"""Push-to-talk: the groups that the device belongs to, and what comes from their hubs. Nothing here blocks."""

from agent.ptt import participant, playback
from agent.ptt.hub_link import Line
from agent.ptt.keys import KeyRefused, unwrap
from agent.ptt.talk_group import EMERGENCY, PRIVATE, TALK, Group, context
from agent.ptt.transmit_session import REVOKED
from patrolink_protocol import mcptt, srtp
from patrolink_protocol.native import const

_DATAGRAMS = const(16)  # taken from one socket in one go
_LONGEST = const(640)
_RTCP_FIRST = const(192)
_RTCP_LAST = const(223)
_APP = const(204)


class Radio:
    """
    user       our MCPTT ID, bytes
    decrypt    compat.aes.decrypter of the wrapping key
    aes        compat.aes.encrypter
    shield     agent.ptt.hub_link.Shield
    udp        function(host, port) -> hal UDP socket
    speaking, hearing, sounds   agent.ptt
    """

    def __init__(self, user, decrypt, aes, shield, udp, speaking, hearing, sounds, log, most_groups):
        self._user = user
        self._decrypt = decrypt
        self._aes = aes
        self._shield = shield
        self._udp = udp
        self.speaking = speaking
        self.hearing = hearing
        self._sound = sounds
        self._log = log
        self._most = most_groups
        self._buf = bytearray(_LONGEST)
        self.groups = []
        self.lines = []
        self.selected = None
        self._now = 0
        self.refused = 0  # datagrams

    def busy(self):
        """Whether somebody speaks here, wants to, or is heard."""
        return self.speaking.press is not None or self.hearing.group is not None

    # --- groups -----------------------------------------------------------------------------------------------------

    def find(self, number):
        """Return the group of that number, or None."""
        for group in self.groups:
            if group.number == number:
                return group
        return None

    def take_group(self, terms, now_ms):
        """Take a ptt_group message: join, new terms or keys, or leave."""
        self._now = now_ms
        group = self.find(terms["group"])
        if not terms["rights"]:
            if group is not None:
                self._leave(group)
            return
        if group is None and len(self.groups) >= self._most:
            self._log("ptt: group %d is one more than the %d of this board" % (terms["group"], self._most))
            return
        rtp = None
        if group is None or terms["key"] != group.key:
            try:
                rtp = context(self._aes, *unwrap(self._decrypt, terms["wrapped"]))
            except KeyRefused as e:
                self._log("ptt: the key of group %d is refused: %s" % (terms["group"], e))
                return
        address = (terms["host"], terms["floor_port"], terms["media_port"])
        if group is not None and (terms["ssrc"] != group.floor.ssrc or address != group.line.address):
            rtp = rtp or group.rtp
            self._leave(group)
            group = None
        if group is None:
            self._join(terms, address, rtp, now_ms)
            return
        group.set(terms)
        if rtp is not None:
            group.rekey(rtp, now_ms)

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
        if self.selected is None:
            self._select()
        self._log("ptt: group %d %s" % (group.number, group.name))

    def _select(self):
        """Until the wearer chooses: the first one where he may talk."""
        self.selected = None
        for group in self.groups:
            if group.rights & TALK and group.kind != PRIVATE:
                self.selected = group
                return

    def _leave(self, group):
        if self.speaking.press is not None and self.speaking.press.group is group:
            self.speaking.finish(REVOKED, playback.REVOKE)
        if self.hearing.group is group:
            self.hearing.end()
        self.groups.remove(group)
        line = group.line
        line.ssrcs.remove(group.floor.ssrc)
        if not line.ssrcs:
            line.close()
            self.lines.remove(line)
        if self.selected is group:
            self._select()

    # --- the wearer's keys ------------------------------------------------------------------------------------------

    def button(self, line, now_ms):
        """Take a line of the buttons; False when it is none of ours."""
        self._now = now_ms
        word, _, rest = line.partition(b" ")
        speaking = self.speaking
        if word == b"ptt":
            speaking.down(self.selected, mcptt.NORMAL, now_ms)
        elif word == b"emergency":
            speaking.down(self._for_emergency(), mcptt.EMERGENCY, now_ms)
        elif word == b"call":
            speaking.down(self._private(), mcptt.NORMAL, now_ms)
        elif word == b"ptt-up":
            speaking.up(now_ms)
        elif word == b"group":
            group = self.find(_number(rest))
            if group is None:
                self._sound.tone(playback.DENY)
            else:
                self.selected = group
        elif word == b"replay":
            if speaking.press is not None or not self._sound.replay():
                self._sound.tone(playback.DENY)
        else:
            return False
        return True

    def _private(self):
        for group in self.groups:
            if group.kind == PRIVATE and group.rights & TALK:
                return group
        return None

    def _for_emergency(self):
        """The selected group, or the foremost one, where the wearer may call an emergency."""
        if self.selected is not None and self.selected.rights & EMERGENCY:
            return self.selected
        best = None
        for group in self.groups:
            if group.rights & EMERGENCY and (best is None or group.rank > best.rank):
                best = group
        return best or self.selected

    # --- every turn of the main loop --------------------------------------------------------------------------------

    def serve(self, now_ms):
        """Take what has come, send what is due, say what is to be heard; return milliseconds until more is due."""
        self._now = now_ms
        speaking = self.speaking
        wait = 1000
        speaking.listen(now_ms)
        for line in self.lines:
            self._take(line, now_ms)
            wait = min(wait, line.poll(now_ms))
            if line.up(now_ms) != line.told:
                line.told = not line.told
                self._log("ptt: hub %s %s" % (line.address[0], "answers" if line.told else "does not answer"))
        for group in self.groups:
            due = group.poll(now_ms)
            if due is not None:
                wait = min(wait, due)
        if speaking.press is not None:
            wait = min(wait, speaking.talk(now_ms))
        if not speaking.is_open():
            self.hearing.choose(self.groups, now_ms)
        due = self._sound.serve(now_ms)
        return wait if due is None else min(wait, due)

    def close(self, now_ms):
        """The power goes: give back the floor, and close the microphone."""
        if self.speaking.press is not None:
            self.speaking.drop(now_ms)
        for line in self.lines:
            line.close()

    def _on(self, group, event):
        """The floor of a group tells something."""
        press = self.speaking.press
        if event == participant.TAKEN:
            if group.taken() and group is self.hearing.group:
                self.hearing.end()
        elif event == participant.IDLE:
            group.idle(self._now)
        elif press is not None and press.group is group:
            self.speaking.on(event, self._now)
        elif event == participant.GRANTED:
            group.floor.release(self._now)

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
            if buf[1] != _APP:
                return
            ssrc = _word(buf, 4)
            for group in self.groups:
                if group.line is line and group.hub_ssrc == ssrc:
                    group.floor.receive(buf, n, line.index, now_ms)
        except (srtp.SrtpError, mcptt.FloorError):
            self.refused += 1

    def _voice(self, line, n, now_ms):
        buf = self._buf
        ssrc = _word(buf, 8)
        for group in self.groups:
            if group.line is line:
                plain = group.open(buf, n, ssrc, now_ms)
                if plain:
                    if not self.speaking.is_open():
                        self.hearing.choose(self.groups, now_ms)
                        if group is self.hearing.group:
                            self.hearing.take(buf, plain, now_ms)
                    return
        self.refused += 1


def _word(buf, at):
    return buf[at] << 24 | buf[at + 1] << 16 | buf[at + 2] << 8 | buf[at + 3]


def _number(text):
    try:
        return int(text)
    except ValueError:
        return -1
