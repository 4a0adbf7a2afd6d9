"""Push-to-talk client: the talk groups of the device and the datagrams of their hubs. Nothing blocks."""

import patrolink_enums as enums
from agent.ptt import playback
from agent.ptt.hub_link import HubLink
from agent.ptt.keys import KeyUnwrapError, unwrap
from agent.ptt.talk_group import TalkGroup, rtp_context
from patrolink_protocol import mcptt, participant, srtp
from patrolink_protocol.native import const

_DATAGRAMS_MAX = const(16)  # read from one socket in a call
_DATAGRAM_BYTES = const(640)
_RTCP_FIRST = const(192)
_RTCP_LAST = const(223)
_RTCP_APP = const(204)
_WAIT_MS = const(1000)


class PttClient:
    """Push-to-talk of one device.

    Args:
        user: MCPTT ID of the device, bytes.
        decrypt: compat.aes.decrypter of the wrapping key.
        aes: compat.aes.encrypter.
        srtcp: SrtcpContext.
        open_udp: function(host, port) returning a UDP socket of the HAL, or raising OSError.
        transmit_session: TransmitSession.
        receive_arbiter: ReceiveArbiter.
        sounds: Playback.
        log: function(text).
        groups_max: number of groups that the board has memory for.

    Attributes:
        groups: list of TalkGroup.
        links: list of HubLink, one per hub address.
        selected: TalkGroup that the push-to-talk key uses, None without one.
        rejected: number of datagrams that were not authentic, replayed or malformed.
    """

    def __init__(self, user, decrypt, aes, srtcp, open_udp, transmit_session, receive_arbiter, sounds, log, groups_max):
        self._user = user
        self._decrypt = decrypt
        self._aes = aes
        self._srtcp = srtcp
        self._open_udp = open_udp
        self.transmit_session = transmit_session
        self.receive_arbiter = receive_arbiter
        self._sounds = sounds
        self._log = log
        self._groups_max = groups_max
        self._buf = bytearray(_DATAGRAM_BYTES)
        self.groups = []
        self.links = []
        self.selected = None
        self.rejected = 0

    def is_busy(self):
        """Return True while the wearer transmits or requests the floor, or media is received."""
        return self.transmit_session.press is not None or self.receive_arbiter.group is not None

    @property
    def errors(self):
        """Bits of device_status.errors."""
        return enums.DEVICE_STATUS_ERRORS_MICROPHONE_FAULT if self.transmit_session.microphone_fault else 0

    # --- groups -----------------------------------------------------------------------------------------------------

    def find_group(self, number):
        """Return the TalkGroup with that number, or None."""
        for group in self.groups:
            if group.number == number:
                return group
        return None

    def select(self, group):
        """Make `group` the one that the push-to-talk key uses."""
        self.selected = group

    def on_group_message(self, terms, now_ms):
        """Apply a decoded ptt_group message: join a group, change its terms or key, or leave it."""
        group = self.find_group(terms["group"])
        if not terms["rights"]:
            if group is not None:
                self._leave(group)
            return
        if group is None and len(self.groups) >= self._groups_max:
            self._log("ptt: group %d ignored: the limit of %d groups is reached" % (terms["group"], self._groups_max))
            return
        rtp = None
        if group is None or terms["key"] != group.key:
            try:
                rtp = rtp_context(self._aes, *unwrap(self._decrypt, terms["wrapped"]))
            except KeyUnwrapError as e:
                self._log("ptt: key of group %d rejected: %s" % (terms["group"], e))
                return
        address = (terms["host"], terms["floor_port"], terms["media_port"])
        if group is not None and (terms["ssrc"] != group.floor.ssrc or address != group.link.address):
            rtp = rtp or group.rtp
            self._leave(group)
            group = None
        if group is None:
            self._join(terms, address, rtp, now_ms)
            return
        group.set_terms(terms)
        if rtp is not None:
            group.rekey(rtp, now_ms)

    def _join(self, terms, address, rtp, now_ms):
        link = self._link(address, now_ms)
        group = TalkGroup(terms, link, rtp, self._user)
        link.add_member(group.floor.ssrc, now_ms)
        self.groups.append(group)
        if self.selected is None:
            self._select_default()
        self._log("ptt: group %d joined: %s" % (group.number, group.name))

    def _link(self, address, now_ms):
        for link in self.links:
            if link.address == address:
                return link
        link = HubLink(address, self._open_udp, self._srtcp, self._log, now_ms)
        self.links.append(link)
        return link

    def _select_default(self):
        """Select the first group, other than a private one, in which the wearer may talk."""
        self.selected = None
        for group in self.groups:
            if group.may_talk() and not group.is_private():
                self.selected = group
                return

    def _leave(self, group):
        self.transmit_session.on_group_left(group)
        self.receive_arbiter.on_group_left(group)
        self.groups.remove(group)
        if group.link.remove_member(group.floor.ssrc):
            self.links.remove(group.link)
        if self.selected is group:
            self._select_default()

    # --- keys of the wearer -----------------------------------------------------------------------------------------

    def on_button(self, line, now_ms):
        """Handle a line of the buttons; return False if it is not one of push-to-talk."""
        word, _, rest = line.partition(b" ")
        session = self.transmit_session
        if word == b"ptt":
            session.on_key_down(self.selected, mcptt.NORMAL, now_ms)
        elif word == b"emergency":
            session.on_key_down(self._emergency_group(), mcptt.EMERGENCY, now_ms)
        elif word == b"call":
            session.on_key_down(self._private_group(), mcptt.NORMAL, now_ms)
        elif word == b"ptt-up":
            session.on_key_up(now_ms)
        elif word == b"group":
            group = self.find_group(_number(rest))
            if group is None:
                self._sounds.play_tone(playback.DENY_TONE)
            else:
                self.selected = group
        elif word == b"replay":
            if session.press is not None or not self._sounds.replay():
                self._sounds.play_tone(playback.DENY_TONE)
        else:
            return False
        return True

    def _private_group(self):
        for group in self.groups:
            if group.is_private() and group.may_talk():
                return group
        return None

    def _emergency_group(self):
        """Return the selected group, or else the one of the highest rank, in which emergency calls are allowed."""
        if self.selected is not None and self.selected.may_call_emergency():
            return self.selected
        best = None
        for group in self.groups:
            if group.may_call_emergency() and (best is None or group.rank > best.rank):
                best = group
        return best or self.selected

    # --- main loop --------------------------------------------------------------------------------------------------

    def serve(self, now_ms):
        """Receive, run the timers, transmit and play; return milliseconds until the next call is due."""
        session = self.transmit_session
        wait_ms = _WAIT_MS
        session.capture(now_ms)
        for link in self.links:
            self._receive(link, now_ms)
            wait_ms = min(wait_ms, link.poll(now_ms))
        for group in self.groups:
            self._on_events(group, group.poll(now_ms).events, now_ms)
            due_ms = group.floor.next_timer_ms(now_ms)
            if due_ms is not None:
                wait_ms = min(wait_ms, due_ms)
        if session.press is not None:
            wait_ms = min(wait_ms, session.transmit(now_ms))
        if not session.is_open():
            self.receive_arbiter.select(self.groups, now_ms)
        due_ms = self._sounds.serve(now_ms)
        return wait_ms if due_ms is None else min(wait_ms, due_ms)

    def close(self, now_ms):
        """Release the floor, close the microphone and the sockets: the device is shutting down."""
        if self.transmit_session.press is not None:
            self.transmit_session.stop(now_ms)
        for link in self.links:
            link.close()

    def _on_events(self, group, events, now_ms):
        press = self.transmit_session.press
        if press is not None and press.group is group:
            self.transmit_session.on_events(events, now_ms)
        elif participant.GRANTED in events:
            group.release(now_ms)

    def _receive(self, link, now_ms):
        buf = self._buf
        for _ in range(_DATAGRAMS_MAX):
            n = link.recv_floor_into(buf)
            if not n:
                break
            self._on_control(link, n, now_ms)
        for _ in range(_DATAGRAMS_MAX):
            n = link.recv_media_into(buf)
            if not n:
                break
            if n > 12 and _RTCP_FIRST <= buf[1] <= _RTCP_LAST:
                self._on_control(link, n, now_ms)
            elif n > 12:
                self._on_media(link, n, now_ms)

    def _on_control(self, link, n, now_ms):
        buf = self._buf
        try:
            n = link.unprotect(buf, n, now_ms)
        except srtp.SrtpError:
            self.rejected += 1
            return
        if buf[1] != _RTCP_APP:
            return
        ssrc = _uint32(buf, 4)
        for group in self.groups:
            if group.link is link and group.hub_ssrc == ssrc:
                effects = group.receive_floor(buf, n, link.index, now_ms)
                self._on_events(group, effects.events, now_ms)
                if effects.error is not None:
                    self.rejected += 1

    def _on_media(self, link, n, now_ms):
        buf = self._buf
        ssrc = _uint32(buf, 8)
        for group in self.groups:
            if group.link is link:
                plain_n = group.unprotect_media(buf, n, ssrc, now_ms)
                if plain_n:
                    if not self.transmit_session.is_open():
                        self.receive_arbiter.select(self.groups, now_ms)
                        if group is self.receive_arbiter.group:
                            self.receive_arbiter.receive(buf, plain_n, now_ms)
                    return
        self.rejected += 1


def _uint32(buf, at):
    return buf[at] << 24 | buf[at + 1] << 16 | buf[at + 2] << 8 | buf[at + 3]


def _number(text):
    try:
        return int(text)
    except ValueError:
        return -1
