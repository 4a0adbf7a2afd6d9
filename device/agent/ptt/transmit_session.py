"""Push-to-talk key and microphone: one press of the key, from key down to the report of its outcome.

The microphone is open only between a press and the end of its burst, and only while the floor is granted or requested.
`transmit` enforces this on every call, and `capture` closes the microphone after a stall of the main loop.
"""

import patrolink_enums as enums
from agent.ptt import playback
from patrolink_protocol import participant
from patrolink_protocol.mcptt import EMERGENCY, NORMAL
from patrolink_protocol.native import const

_HANG_MS = const(200)  # transmitted after key up
_STALL_MS = const(1000)
_PACKETS_MAX = const(10)  # sent in a call: speech from before the grant goes out at several times its speed
_WAIT_MS = const(1000)

# Floor event that ends a press -> ptt_burst.outcome (None: the one that the press has), tone.
_OUTCOMES = {
    participant.DENIED: (enums.PTT_BURST_OUTCOME_DENIED, playback.DENY_TONE),
    participant.FAILED: (enums.PTT_BURST_OUTCOME_FAILED, playback.DENY_TONE),
    participant.ABANDONED: (enums.PTT_BURST_OUTCOME_ABANDONED, None),
    participant.REVOKED: (enums.PTT_BURST_OUTCOME_REVOKED, playback.REVOKE_TONE),
    participant.RELEASED: (None, None),
}


class Press:
    """One press of the key, until its outcome is reported.

    Args:
        group: TalkGroup whose floor is requested.
        indicator: Floor Indicator bits of the request.
        now_ms: time of the press.
        ambient_end_ms: when ambient listening ends; None for a press of the wearer.
    """

    def __init__(self, group, indicator, now_ms, ambient_end_ms):
        self.group = group
        self.indicator = indicator
        self.pressed_ms = self.started_ms = now_ms
        self.access_ms = None
        self.outcome = enums.PTT_BURST_OUTCOME_GRANTED
        self.hang_end_ms = None  # transmission ends; None while the key is down
        self.ssrc = 0
        self.ambient_end_ms = ambient_end_ms
        self.key_down = True


class TransmitSession:
    """Requests the floor and transmits while it is granted. At most one press at a time.

    Args:
        sender: RtpSender.
        sounds: Playback.
        receive_arbiter: ReceiveArbiter, silenced while the microphone is open (half duplex).
        grant_log: GrantLog.
        codec: Opus encoder for groups that use it; None: A-law in every group.
        report: function(values of ptt_burst, monotonic ms of the first sample).
        randbelow: function(n) returning a random integer below n.
        log: function(text).

    Attributes:
        press: the current Press, None without one.
        microphone_fault: True if the microphone could not be opened at the last attempt.
    """

    def __init__(self, sender, sounds, receive_arbiter, grant_log, codec, report, randbelow, log):
        self._sender = sender
        self._sounds = sounds
        self._receive_arbiter = receive_arbiter
        self._grant_log = grant_log
        self._codec = codec
        self._report = report
        self._randbelow = randbelow
        self._log = log
        self.press = None
        self.microphone_fault = False
        self._captured_ms = 0

    def is_open(self):
        """Return True while the microphone is open."""
        return self._sender.is_open

    # --- key --------------------------------------------------------------------------------------------------------

    def on_key_down(self, group, indicator, now_ms):
        """Start a press in `group` (None: there is none, which sounds the deny tone)."""
        press = self.press
        if press is not None:
            ambient = press.ambient_end_ms is not None
            same = press.group is group and press.indicator == indicator and not ambient
            if press.key_down and not ambient and (same or indicator != EMERGENCY):
                return
            if same:
                press.key_down = True
                press.hang_end_ms = None
                self.on_events(group.press(now_ms, indicator).events, now_ms)
                return
            self.stop(now_ms)
        if group is None or not group.may_talk():
            self._sounds.play_tone(playback.DENY_TONE)
        else:
            self._start(Press(group, indicator, now_ms, None), now_ms)

    def on_key_up(self, now_ms):
        """End the press of the wearer: after 200 ms if the floor is granted, else at once."""
        press = self.press
        if press is None or not press.key_down or press.ambient_end_ms is not None:
            return
        press.key_down = False
        if press.group.floor.state == participant.HAS_PERMISSION:
            if press.hang_end_ms is None:
                press.hang_end_ms = now_ms + _HANG_MS
        else:
            self.on_events(press.group.release(now_ms).events, now_ms)

    def start_ambient(self, group, duration_s, now_ms):
        """Start ambient listening: transmit in the private group for the control room.

        Returns:
            None if it was started, else the reason why not.
        """
        if not group.is_private():
            return "not a private group"
        if self.press is not None:
            return "the wearer is using push-to-talk"
        if not self._start(Press(group, NORMAL, now_ms, now_ms + 1000 * duration_s), now_ms):
            return "the microphone cannot be opened"
        return None

    def stop(self, now_ms):
        """End the current press: release the floor, the request, or the position in the queue."""
        group = self.press.group
        self.on_events(group.release(now_ms).events, now_ms)
        self.on_events(group.cancel(now_ms).events, now_ms)
        if self.press is not None:
            self._finish(enums.PTT_BURST_OUTCOME_ABANDONED, None)

    def on_group_left(self, group):
        """End the press if it is in `group`, of which the device is no longer a member."""
        if self.press is not None and self.press.group is group:
            self._finish(enums.PTT_BURST_OUTCOME_REVOKED, playback.REVOKE_TONE)

    def _start(self, press, now_ms):
        """Open the microphone and request the floor. Return False if the microphone cannot be opened."""
        self.press = press
        self._captured_ms = now_ms
        if not self._open_microphone():
            self._finish(enums.PTT_BURST_OUTCOME_FAILED, playback.DENY_TONE)
            return False
        self.on_events(press.group.press(now_ms, press.indicator).events, now_ms)
        return True

    def _open_microphone(self):
        self._receive_arbiter.end_burst()
        self._sounds.stop_voice()
        self.microphone_fault = not self._sender.open()
        return not self.microphone_fault

    # --- floor ------------------------------------------------------------------------------------------------------

    def on_events(self, events, now_ms):
        """Handle the floor events of the group of the press."""
        for event in events:
            if self.press is None:
                return
            self._on_event(self.press, event, now_ms)

    def _on_event(self, press, event, now_ms):
        if event == participant.GRANTED:
            self._start_burst(press, now_ms)
        elif event in _OUTCOMES:
            outcome, tone = _OUTCOMES[event]
            self._finish(press.outcome if outcome is None else outcome, tone)
        elif event == participant.QUEUE_POSITION:
            press.outcome = enums.PTT_BURST_OUTCOME_QUEUED
            self._sender.close()
            if press.ambient_end_ms is None:
                self._sounds.play_tone(playback.QUEUED_TONE)
            else:
                self.stop(now_ms)
        elif event == participant.QUEUE_GRANT:
            self._sounds.play_tone(playback.TURN_TONE)
        elif event == participant.TALK_TIME_WARNING:
            self._sounds.play_tone(playback.LIMIT_TONE)

    def _start_burst(self, press, now_ms):
        group = press.group
        if not self._grant_log.add(group.floor.audio_ssrc):
            self._log("ptt: group %d: granted SSRC was used before or cannot be stored; floor released" % group.number)
            self.on_events(group.release(now_ms).events, now_ms)
            return
        if not self._sender.is_open and not self._open_microphone():
            self.on_events(group.release(now_ms).events, now_ms)
            return
        press.ssrc = group.floor.audio_ssrc
        codec = self._codec if group.codec else None
        preroll_ms = self._sender.start_burst(press.ssrc, self._randbelow(32768), codec)
        if press.access_ms is None:
            press.access_ms = now_ms - press.pressed_ms
            press.started_ms = now_ms - preroll_ms
            if press.ambient_end_ms is None:
                self._sounds.play_tone(playback.GRANT_TONE)

    def _finish(self, outcome, tone):
        """Close the microphone and report the outcome of the press."""
        press, self.press = self.press, None
        if self._sender.is_open:
            self._sender.close()
        if tone:
            self._sounds.play_tone(tone)
        packets = self._sender.packets if press.ssrc else 0
        values = {
            "group": press.group.number,
            "role": enums.PTT_BURST_ROLE_TALKED,
            "outcome": outcome,
            "duration_ms": packets * self._sender.frame_ms,
            "access_ms": None if press.access_ms is None else min(press.access_ms, 65534),
            "packets": min(packets, 65535),
            "lost": 0,
            "ssrc": press.ssrc,
        }
        self._report(values, press.started_ms)

    # --- main loop --------------------------------------------------------------------------------------------------

    def capture(self, now_ms):
        """Read the microphone. After a stall of the main loop, end the press instead."""
        stall_ms = now_ms - self._captured_ms
        self._captured_ms = now_ms
        if not self._sender.is_open:
            return
        if stall_ms > _STALL_MS:
            self._log("ptt: microphone closed: the main loop stalled for %d ms" % stall_ms)
            self.stop(now_ms)
        else:
            self._sender.capture()

    def transmit(self, now_ms):
        """Send captured speech while the floor is granted; return milliseconds until the next call is due."""
        press = self.press
        sender = self._sender
        group = press.group
        if press.ambient_end_ms is not None and now_ms >= press.ambient_end_ms:
            self.stop(now_ms)
            return 0
        state = group.floor.state
        if state == participant.PENDING_REQUEST:
            return _WAIT_MS
        if state != participant.HAS_PERMISSION:
            if sender.is_open:
                sender.close()
            return _WAIT_MS
        if press.ssrc != group.floor.audio_ssrc:
            self._start_burst(press, now_ms)  # the hub has started another burst for this device
            return 0
        last = press.hang_end_ms is not None and now_ms >= press.hang_end_ms
        for _ in range(_PACKETS_MAX):
            if not sender.next_packet(last):
                break
            group.link.send_media(sender.packet_view(group.rtp.protect(sender.packet, sender.n, 0)))
        else:
            return 0
        if last:
            self.on_events(group.release(now_ms).events, now_ms)
            return 0
        return _WAIT_MS if press.hang_end_ms is None else press.hang_end_ms - now_ms
