"""One talk group of the device: its terms, its keys, its floor participant and the media received in it."""

import patrolink_enums as enums
from agent.ptt.grant_log import SSRC_COUNTER_BITS
from patrolink_protocol import mcptt, participant, srtp
from patrolink_protocol.native import const

_OLD_KEY_MS = const(10000)
_LATE_MEDIA_MS = const(400)  # media that was in transit when the hub sent Floor Idle
_EARLY_MEDIA_MS = const(2000)  # media whose Floor Taken was lost; the hub repeats it after a second
_PACKET_MAX = const(512)


class TalkGroup:
    """Membership of the device in one group.

    The methods that return `participant.Effects` have already sent the datagrams; the events are for the caller.

    Args:
        terms: decoded ptt_group message.
        link: HubLink to the hub of the group.
        rtp: srtp.SrtpTransform under the key of the group.
        user: MCPTT ID of the device, bytes.
    """

    def __init__(self, terms, link, rtp, user):
        self.number = terms["group"]
        self.link = link
        self.rtp = rtp
        self._old_rtp = None
        self._old_rtp_until_ms = 0
        self.floor = participant.Participant(terms["ssrc"], user)
        self._stream, self._spare_stream = srtp.SrtpStream(), srtp.SrtpStream()
        self.voice_ssrc = 0  # of the current burst of another participant
        self._last_ssrc = 0
        self._early_until_ms = None
        self._late_until_ms = 0
        self.set_terms(terms)

    def set_terms(self, terms):
        """Apply new terms. The caller handles a change of key, SSRC or hub address."""
        self.kind = terms["kind"]
        self.rights = terms["rights"]
        self.priority = terms["priority"]
        self.rank = terms["rank"]
        self.codec = terms["codec"]
        self.hub_ssrc = terms["hub_ssrc"]
        self.key = terms["key"]
        self.name = terms["name"]

    def rekey(self, rtp, now_ms):
        """Switch to a new key. Media under the previous key is accepted for another 10 s."""
        self._old_rtp, self._old_rtp_until_ms = self.rtp, now_ms + _OLD_KEY_MS
        self.rtp = rtp

    def may_talk(self):
        """Return True if the device may request the floor."""
        return bool(self.rights & enums.PTT_GROUP_RIGHTS_TALK)

    def may_call_emergency(self):
        """Return True if the device may request the floor for an emergency."""
        return bool(self.rights & enums.PTT_GROUP_RIGHTS_EMERGENCY)

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
                self._on_taken()
            elif event == participant.IDLE:
                self._on_idle(now_ms)
        return effects

    def _on_taken(self):
        self._early_until_ms = None
        if self.floor.talker_ssrc != self.voice_ssrc:
            self._start_burst(self.floor.talker_ssrc)

    def _on_idle(self, now_ms):
        self.voice_ssrc = 0
        self._early_until_ms = None
        self._late_until_ms = now_ms + _LATE_MEDIA_MS

    def _start_burst(self, ssrc):
        self.voice_ssrc = self._last_ssrc = ssrc
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
        if not self.voice_ssrc and ssrc == self._last_ssrc and now_ms < self._late_until_ms:
            return self._unprotect(buf, n, self._stream)
        if ssrc == self.voice_ssrc:
            n = self._unprotect(buf, n, self._stream)
        elif (
            self.voice_ssrc
            or ssrc >> SSRC_COUNTER_BITS == self._last_ssrc >> SSRC_COUNTER_BITS
            and ssrc <= self._last_ssrc
        ):
            return 0
        else:
            n = self._unprotect(buf, n, self._spare_stream)
            if n:
                self._start_burst(ssrc)
                self._early_until_ms = now_ms + _EARLY_MEDIA_MS
        if n:
            self.floor.media_received(now_ms)
        return n

    def _unprotect(self, buf, n, stream):
        for rtp in (self.rtp, self._old_rtp):
            if rtp is not None:
                try:
                    return rtp.open(buf, n, stream)
                except srtp.SrtpError:
                    pass
        return 0


def rtp_context(aes, key, salt):
    """Return the srtp.SrtpTransform of a group key; `aes` is compat.aes.encrypter."""
    return srtp.SrtpTransform(aes, key, salt, _PACKET_MAX)
