"""Push-to-talk client: the talk groups of the device and the datagrams of their hubs. Nothing blocks."""

import patrolink_enums as enums
from agent.ptt import playback
from agent.ptt.hub_link import HubLink
from agent.ptt.keys import KeyUnwrapError, unwrap
from agent.ptt.talk_group import TalkGroup
from patrolink_protocol import mcptt, participant, srtp
from patrolink_protocol.native import const

_DATAGRAMS_MAX = const(16)  # read from one socket in a call
_DATAGRAM_BYTES = const(640)
_RTCP_FIRST = const(192)
_RTCP_LAST = const(223)
_RTCP_APP = const(204)
_WAIT_MS = const(1000)
_MEDIA_CHECK_MS = const(200)  # while another participant has the floor
_VOICE_REPORT_MS = const(2000)  # between receiver reports while transmitting, and while expected media does not arrive


class PttClient:
    """Push-to-talk of one device.

    Args:
        user: MCPTT ID of the device, bytes.
        decrypt: patrolink_protocol.aes.decrypter of the wrapping key.
        aes: patrolink_protocol.aes.encrypter.
        srtcp: SrtcpContext.
        open_udp: function(host, port) returning a UDP socket of the HAL, or raising OSError.
        transmit_session: TransmitSession.
        receive_arbiter: ReceiveArbiter.
        sounds: Playback.
        log: function(text).
        groups_max: number of groups that the board has memory for.
        heard_log: HeardLog.

    Attributes:
        groups: list of TalkGroup.
        links: list of HubLink, one per hub address.
        selected: TalkGroup that the push-to-talk key uses, None without one.
        rejected: number of datagrams that were not authentic, replayed or malformed.
        changes: number of changes of groups and keys so far.
    """

    def __init__(
        self, user, decrypt, aes, srtcp, open_udp, transmit_session, receive_arbiter, sounds, log, groups_max, heard_log
    ):
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
        self._heard_log = heard_log
        self._buf = bytearray(_DATAGRAM_BYTES)
        self.groups = []
        self.links = []
        self.selected = None
        self.rejected = 0
        self.changes = 0

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
        if terms["rights"]:
            if group is None and len(self.groups) >= self._groups_max:
                self._log(
                    "ptt: group %d ignored: the limit of %d groups is reached" % (terms["group"], self._groups_max)
                )
                return
            self._set_terms(group, terms, now_ms)
        elif group is not None:
            self._leave(group)
        if self.selected is None:
            self._select_default()
        self._report_groups(now_ms)

    def _set_terms(self, group, terms, now_ms):
        secret = self._unwrap(group, terms)
        address = (terms["host"], terms["floor_port"], terms["media_port"])
        last_ssrc = 0
        if group is not None:
            if not secret:
                group.key_fault = True
                return
            if terms["ssrc"] == group.floor.ssrc and address == group.link.address:
                group.set_terms(terms, secret, now_ms)
                return
            last_ssrc = group.last_ssrc
            self._leave(group)
        link = self._link(address, now_ms)
        group = TalkGroup(terms, link, secret, self._user, self._aes, self._heard_log, last_ssrc)
        self.groups.append(group)
        self._log("ptt: group %d joined: %s" % (group.number, group.name))

    def _unwrap(self, group, terms):
        """Return master key and salt of a group; empty, and the wearer is alerted once, if they are not usable."""
        try:
            return b"".join(unwrap(self._decrypt, terms["wrapped"]))
        except KeyUnwrapError as e:
            if group is None or not group.key_fault:
                self._log("ptt: key of group %d rejected: %s" % (terms["group"], e))
                self._sounds.play_tone(playback.NO_KEY_TONE)
            return b""

    def _link(self, address, now_ms):
        for link in self.links:
            if link.address == address:
                return link
        link = HubLink(address, self._open_udp, self._srtcp, self._log, now_ms)
        self.links.append(link)
        return link

    def _report_groups(self, now_ms):
        """Have each link report its groups, and close links without one."""
        self.changes += 1
        for link in list(self.links):
            groups = [group for group in self.groups if group.link is link]
            if groups:
                ssrcs = tuple([group.floor.ssrc for group in groups])
                link.set_groups(self.room(), ssrcs, b"".join([group.report_entry() for group in groups]), now_ms)
            else:
                link.close()
                self.links.remove(link)

    def room(self):
        """Return the number of further groups that the device can hold."""
        return self._groups_max - len(self.groups)

    def report_entries(self):
        """Return the packed entries of all groups (group_report.pack_entry)."""
        return b"".join([group.report_entry() for group in self.groups])

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
        session.capture(now_ms)
        wait_ms = self._hasten_reports(now_ms)
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

    def _hasten_reports(self, now_ms):
        """Let the hub know the device's addresses soon where voice depends on them; return ms until the next check.

        The network may have assigned a new address. The hub then sends Floor Revoke or voice to the old one.
        """
        wait_ms = _WAIT_MS
        for group in self.groups:
            if group.floor.state == participant.HAS_PERMISSION or group.lacks_media(now_ms):
                group.link.hasten(now_ms, _VOICE_REPORT_MS)
            elif group.voice_ssrc:
                wait_ms = _MEDIA_CHECK_MS
        return wait_ms

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
                    if group.key_fault:
                        group.key_fault = False
                        self._report_groups(now_ms)
                    if not self.transmit_session.is_open():
                        self.receive_arbiter.select(self.groups, now_ms)
                        if group is self.receive_arbiter.group:
                            self.receive_arbiter.receive(buf, plain_n, now_ms)
                    return
                if ssrc == group.voice_ssrc and group.detect_key_fault(now_ms):
                    self._on_key_fault(group, now_ms)
        self.rejected += 1

    def _on_key_fault(self, group, now_ms):
        self._log("ptt: voice in group %d cannot be decrypted; its key is requested again" % group.number)
        self._sounds.play_tone(playback.NO_KEY_TONE)
        self._report_groups(now_ms)


def _uint32(buf, at):
    return buf[at] << 24 | buf[at + 1] << 16 | buf[at + 2] << 8 | buf[at + 3]


def _number(text):
    try:
        return int(text)
    except ValueError:
        return -1
