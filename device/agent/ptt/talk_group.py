"""One talk group of the device: its terms, its keys, its floor participant and the media received in it."""

import patrolink_enums as enums
from agent.ptt.grant_log import SSRC_COUNTER_BITS, is_past
from patrolink_protocol import group_report, mcptt, participant, srtp
from patrolink_protocol.native import const

_OLD_KEY_MS = const(10000)
_LATE_MEDIA_MS = const(400)  # media that was in transit when the hub sent Floor Idle
_EARLY_MEDIA_MS = const(2000)  # media whose Floor Taken was lost; the hub repeats it after a second
_PACKET_MAX = const(512)
_UNDECRYPTED_MS = const(1000)  # media of the talker that no key opens: the key of the group is not the hub's
_FAULT_MS = const(30000)  # shortest time between two such faults of a group
_GAP_MS = const(400)  # without media of the talker: the address translation may have changed


class TalkGroup:
    """Membership of the device in one group.

    The methods that return `participant.Effects` have already sent the datagrams; the events are for the caller.

    Args:
        terms: decoded ptt_group message.
        link: HubLink to the hub of the group.
        secret: master key and master salt of the group; empty without a usable key.
        user: MCPTT ID of the device, bytes.
        aes: patrolink_protocol.aes.encrypter.
        heard_log: HeardLog.
        last_ssrc: SSRC of the last burst that the device received in this group, 0 without one.

    Attributes:
        rtp: srtp.SrtpTransform under the key of the group, None without a usable key.
        key: number of the key, 0 without a usable one.
        key_fault: True if the key is missing, or is not the one that the hub uses.
        last_ssrc: as the argument.
    """

    def __init__(self, terms, link, secret, user, aes, heard_log, last_ssrc):
        self.number = terms["group"]
        self.link = link
        self._aes = aes
        self._heard_log = heard_log
        self._secret = b""
        self.rtp = self._old_rtp = None
        self._old_rtp_until_ms = 0
        self.floor = participant.Participant(terms["ssrc"], user)
        self._stream, self._spare_stream = srtp.SrtpStream(), srtp.SrtpStream()
        self.voice_ssrc = 0  # of the current burst of another participant
        self.last_ssrc = last_ssrc
        self._media_ms = 0  # of the last media of the current burst, or of its beginning
        self._undecrypted_ms = self._fault_ms = None
        self._stored_ssrc = 0
        self._early_until_ms = None
        self._late_until_ms = 0
        self.set_terms(terms, secret, 0)

    def set_terms(self, terms, secret, now_ms):
        """Apply new terms and the key that belongs to them. The caller handles a change of SSRC or hub address.

        Media under the previous key is accepted for another 10 s.

        Args:
            terms: decoded ptt_group message.
            secret: master key and master salt; empty if the device has no usable key.
            now_ms: current time.
        """
        self.kind = terms["kind"]
        self.rights = terms["rights"]
        self.priority = terms["priority"]
        self.rank = terms["rank"]
        self.codec = terms["codec"]
        self.hub_ssrc = terms["hub_ssrc"]
        self.name = terms["name"]
        self.key = terms["key"] if secret else 0
        self.key_fault = not secret
        self._undecrypted_ms = None
        if secret != self._secret:
            self._old_rtp, self._old_rtp_until_ms = self.rtp, now_ms + _OLD_KEY_MS
            self._secret = secret
            self.rtp = None
            if secret:
                key, salt = secret[: srtp.KEY_BYTES], secret[srtp.KEY_BYTES :]
                self.rtp = srtp.SrtpTransform(self._aes, key, salt, _PACKET_MAX)
        wire_terms = dict(terms)
        for name in ("host", "name"):
            wire_terms[name] = terms[name].encode()
        self._digest = group_report.terms_digest(wire_terms, secret)

    def report_entry(self):
        """Return the group's entry in reports to the hub (group_report.pack_entry)."""
        return group_report.pack_entry(self.number, 0 if self.key_fault else self.key, self._digest)

    def may_talk(self):
        """Return True if the device may request the floor."""
        return self.rtp is not None and bool(self.rights & enums.PTT_GROUP_RIGHTS_TALK)

    def may_call_emergency(self):
        """Return True if the device may request the floor for an emergency."""
        return self.rtp is not None and bool(self.rights & enums.PTT_GROUP_RIGHTS_EMERGENCY)

    def is_private(self):
        """Return True for the group of this device and the control room."""
        return self.kind == enums.PTT_GROUP_KIND_PRIVATE

    def receive_priority(self):
        """Return the rank of this group among groups that receive media at once; 0 while nobody transmits."""
        if not self.voice_ssrc or not self.rights & enums.PTT_GROUP_RIGHTS_LISTEN:
            return 0
        return 1 + self.rank + (256 if self.floor.indicator & mcptt.EMERGENCY else 0)

    # --- floor ------------------------------------------------------------------------------------------------------

    def press(self, now_ms, indicator):
        """Request the floor with the priority of the group's terms; see Participant.press."""
        return self._apply(self.floor.press(now_ms, self.priority, indicator), now_ms)

    def release(self, now_ms):
        """Release the floor or the pending request; see Participant.release."""
        return self._apply(self.floor.release(now_ms), now_ms)

    def cancel(self, now_ms):
        """Withdraw a queued request; see Participant.cancel."""
        return self._apply(self.floor.cancel(now_ms), now_ms)

    def receive_floor(self, buf, n, index, now_ms):
        """Process an authenticated floor control datagram; see Participant.receive."""
        return self._apply(self.floor.receive(buf, n, index, now_ms), now_ms)

    def poll(self, now_ms):
        """Run the timers that are due; see Participant.poll."""
        if self._old_rtp is not None and now_ms >= self._old_rtp_until_ms:
            self._old_rtp = None
        if self._early_until_ms is not None and now_ms >= self._early_until_ms:
            self._on_idle(now_ms)
        return self._apply(self.floor.poll(now_ms), now_ms)

    def _apply(self, effects, now_ms):
        for datagram in effects.datagrams:
            self.link.send_floor(datagram)
        for event in effects.events:
            if event == participant.TAKEN:
                self._on_taken(now_ms)
            elif event == participant.IDLE:
                self._on_idle(now_ms)
        return effects

    def _on_taken(self, now_ms):
        self._early_until_ms = None
        ssrc = self.floor.talker_ssrc
        if ssrc != self.voice_ssrc and not self._heard_log.is_past(ssrc):
            self._start_burst(ssrc, now_ms)

    def _on_idle(self, now_ms):
        self.voice_ssrc = 0
        self._early_until_ms = None
        self._late_until_ms = now_ms + _LATE_MEDIA_MS

    def _start_burst(self, ssrc, now_ms):
        self.voice_ssrc = self.last_ssrc = ssrc
        self._media_ms = now_ms
        self._undecrypted_ms = None
        self._stream, self._spare_stream = self._spare_stream, self._stream
        self._spare_stream.reset()

    # --- media ------------------------------------------------------------------------------------------------------

    def unprotect_media(self, buf, n, ssrc, now_ms):
        """Authenticate and decrypt the SRTP packet buf[:n] in place.

        Media may arrive before the Floor Taken that announces it. It is accepted if it is authentic and does not
        belong to an earlier burst.

        Returns:
            Length of the plain packet, or 0 if it is not for this group, not authentic, replayed or late.
        """
        if not self.voice_ssrc and ssrc == self.last_ssrc and now_ms < self._late_until_ms:
            return self._unprotect(buf, n, self._stream)
        if ssrc == self.voice_ssrc:
            n = self._unprotect(buf, n, self._stream)
        elif (
            self.voice_ssrc
            or ssrc >> SSRC_COUNTER_BITS == self.last_ssrc >> SSRC_COUNTER_BITS
            and is_past(ssrc, self.last_ssrc and self.last_ssrc + 1)
            or self._heard_log.is_past(ssrc)
        ):
            return 0
        else:
            n = self._unprotect(buf, n, self._spare_stream)
            if n:
                self._start_burst(ssrc, now_ms)
                self._early_until_ms = now_ms + _EARLY_MEDIA_MS
        if n:
            self._on_media(ssrc, now_ms)
        elif ssrc == self.voice_ssrc and self._undecrypted_ms is None:
            self._undecrypted_ms = now_ms
        return n

    def _on_media(self, ssrc, now_ms):
        self.floor.media_received(now_ms)
        self._media_ms = now_ms
        self._undecrypted_ms = None
        if ssrc != self._stored_ssrc:
            self._stored_ssrc = ssrc
            self._heard_log.add(ssrc)

    def lacks_media(self, now_ms):
        """Return True if another participant has the floor and its media does not arrive."""
        return self.voice_ssrc != 0 and now_ms - self._media_ms >= _GAP_MS

    def detect_key_fault(self, now_ms):
        """Return True if the current talker's media could not be decrypted for 1 s, once in 30 s at most."""
        if self._undecrypted_ms is None or now_ms - self._undecrypted_ms < _UNDECRYPTED_MS:
            return False
        if self._fault_ms is not None and now_ms - self._fault_ms < _FAULT_MS:
            return False
        self._fault_ms = now_ms
        self.key_fault = True
        return True

    def _unprotect(self, buf, n, stream):
        for rtp in (self.rtp, self._old_rtp):
            if rtp is not None:
                try:
                    return rtp.open(buf, n, stream)
                except srtp.SrtpError:
                    pass
        return 0
