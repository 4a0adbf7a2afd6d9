"""Floor participant: the client side of floor control for one group (3GPP TS 24.380, 6.2.4). MicroPython subset.

`Participant` is a pure state machine, shared by the device and by the hub's dispatcher sessions. It has no socket and
no clock: the caller passes the time in milliseconds of a monotonic clock, and carries out the returned `Effects`.

Messages are processed in order. A datagram with a lower index than the newest one is ignored, because its content was
repeated or superseded. A message without a procedure in the current state is ignored and the state does not change.
"""

from collections import namedtuple

from patrolink_protocol import mcptt

# States
NO_PERMISSION, PENDING_REQUEST, HAS_PERMISSION, PENDING_RELEASE, QUEUED = range(5)

# Events
GRANTED = 1  # the floor is granted: transmit under `audio_ssrc`
DENIED = 2  # `cause` is that of Floor Deny
REVOKED = 3  # stop transmitting; `cause` is that of Floor Revoke, 0 if the floor was lost without one
FAILED = 4  # the request was not answered, or the server lost the queue position
QUEUE_POSITION = 5  # the request is queued at `position`
QUEUE_GRANT = 6  # the queued request is granted and the key is up: press within T132 to transmit
ABANDONED = 7  # the request was withdrawn before an answer, or T132 expired
TALK_TIME_WARNING = 8  # the talk time ends in WARNING_MS
RELEASED = 9  # the burst ended: key up, or the talk time expired
TAKEN = 10  # `talker` has the floor
IDLE = 11  # the floor is free

# Timers and counters, TS 24.380 11.1.1
T100_MS = T101_MS = 300  # first resend of Floor Release and Floor Request; the interval doubles twice
_SENDS_MAX = 4
T103_MS = 4000  # no media from the talker: the floor counts as idle
T104_MS = 4000  # between two Floor Queue Position Requests
_C104 = 3
T132_MS = 2000  # time to use a grant out of the queue
WARNING_MS = 5000

Effects = namedtuple("Effects", ("datagrams", "events", "error"))
"""What a call to `Participant` returns for the caller to carry out.

datagrams  plain floor control datagrams (bytes), to be protected and sent in this order
events     event constants of this module, in order
error      mcptt.FloorError of a malformed or unexpected message; the rest of that datagram was ignored. Else None
"""

NO_EFFECTS = Effects((), (), None)


class Participant:
    """Floor state machine of one member of one group.

    Every method that takes the time returns `Effects`.

    Args:
        ssrc: SSRC of this participant's floor control messages in the group.
        user: MCPTT ID of this participant, UTF-8 bytes of at most 128.

    Attributes:
        state: NO_PERMISSION, PENDING_REQUEST, HAS_PERMISSION, PENDING_RELEASE or QUEUED.
        key_down: True between `press` and `release`.
        audio_ssrc: SSRC granted to this participant, 0 without a grant.
        talker: MCPTT ID of the other participant that has the floor, empty if nobody does.
        talker_ssrc: SSRC of the talker's media, 0 if unknown.
        indicator: Floor Indicator bits of the current burst.
        may_request: False while the server does not permit floor requests (Floor Taken, 8.2.3.8).
        cause: cause of the last DENIED or REVOKED event.
        position: position in the queue, from Floor Queue Position Info.
        talk_end_ms: end of the granted talk time, on the caller's clock.
    """

    def __init__(self, ssrc, user):
        self.ssrc = ssrc
        self._user = user
        self._buf = bytearray(256)
        self._writer = mcptt.Writer(self._buf)
        self._message = mcptt.Message()
        self._datagrams = []
        self._events = []
        self.state = NO_PERMISSION
        self.key_down = False
        self.audio_ssrc = 0
        self._returned_ssrc = 0  # the previous grant: a late duplicate of it must not start a burst
        self.talker = b""
        self.talker_ssrc = 0
        self.indicator = 0
        self.may_request = True
        self.cause = 0
        self.position = 0
        self.talk_end_ms = 0
        self._warned = False
        self._index = -1  # of the newest datagram
        self._priority = self._requested_indicator = 0
        self._timer_ms = None  # when T100, T101, T104 or T132 expires, whichever the state uses
        self._sends = 0  # -1 once T132 runs
        self._media_ms = None  # last media of the talker, for T103

    # --- user -------------------------------------------------------------------------------------------------------

    def press(self, now_ms, priority=0, indicator=mcptt.NORMAL):
        """Request the floor, or accept a grant out of the queue.

        Args:
            now_ms: current time.
            priority: requested priority, 0 to 255.
            indicator: Floor Indicator bits of the request; QUEUEING is added.
        """
        self.key_down = True
        if self.state == QUEUED:
            if self.audio_ssrc:
                self._start_burst(now_ms)
        elif self.state in (NO_PERMISSION, PENDING_RELEASE):
            self._priority = priority
            self._requested_indicator = indicator | mcptt.QUEUEING
            self._writer.clear()
            if self.state == PENDING_RELEASE:
                self._write_release()  # in the same datagram: the two cannot be reordered
            self.audio_ssrc = 0
            self._write_request()
            self._send()
            self._enter(PENDING_REQUEST, now_ms, T101_MS)
        return self._effects()

    def release(self, now_ms):
        """End the burst, or withdraw the pending request. A queued request stays queued: see `cancel`."""
        self.key_down = False
        if self.state == HAS_PERMISSION:
            self._return_floor(now_ms, RELEASED)
        elif self.state == PENDING_REQUEST:
            self._return_floor(now_ms, ABANDONED)
        return self._effects()

    def cancel(self, now_ms):
        """Withdraw a queued request."""
        if self.state == QUEUED:
            self._return_floor(now_ms, ABANDONED)
        return self._effects()

    def media_received(self, now_ms):
        """Restart T103: a media packet of the talker arrived. Has no effects."""
        self._media_ms = now_ms

    # --- floor control server ---------------------------------------------------------------------------------------

    def receive(self, buf, n, index, now_ms):
        """Process one authenticated plain datagram.

        Args:
            buf: holds the datagram in buf[:n].
            n: its length in bytes.
            index: its SRTCP index, or another number that increases with every datagram.
            now_ms: current time.
        """
        if index <= self._index:
            return NO_EFFECTS
        self._index = index
        message = self._message
        at = 0
        error = None
        try:
            while at < n:
                at = message.read(buf, at, n, mcptt.DOWNLINK_TYPES)
                self._process(message, buf, now_ms)
                if message.ack:
                    self._send_ack(message.type)
        except mcptt.FloorError as e:
            error = e
        return self._effects(error)

    def _process(self, message, buf, now_ms):
        kind = message.type
        state = self.state
        if kind == mcptt.TAKEN:
            self._set_talker(message, buf, now_ms)
            self._lose_floor()
            self._events.append(TAKEN)
        elif kind == mcptt.IDLE:
            self._clear_talker()
            self._lose_floor()
            self._events.append(IDLE)
        elif kind == mcptt.GRANTED:
            self._on_granted(message, now_ms)
        elif kind == mcptt.DENY:
            if state in (PENDING_REQUEST, QUEUED):
                self.cause = message.cause
                self._enter_no_permission(DENIED)
        elif kind == mcptt.REVOKE:
            if state == HAS_PERMISSION or state == QUEUED and self.audio_ssrc:
                self.cause = message.cause
                self._return_floor(now_ms, REVOKED)
            elif state == PENDING_RELEASE:
                self._send_release()
        elif kind == mcptt.QUEUE_POSITION_INFO:
            self._on_queue_position(message, now_ms)
        elif kind == mcptt.ACK:
            if state == PENDING_RELEASE and message.acked == mcptt.RELEASE:
                self._enter_no_permission(None)

    def _on_granted(self, message, now_ms):
        state = self.state
        if state == NO_PERMISSION:
            self._send_release()  # of a request that was withdrawn: nobody shall wait for it
            return
        if state == PENDING_RELEASE or state != HAS_PERMISSION and message.audio_ssrc == self._returned_ssrc:
            return  # crossed our Floor Release
        if message.duration <= 0:
            return
        self.audio_ssrc = message.audio_ssrc
        if message.indicator >= 0:
            self.indicator = message.indicator
        self.talk_end_ms = now_ms + message.duration * 1000
        if state == HAS_PERMISSION:
            return  # repeated; the SSRC differs if the server started another burst
        self._clear_talker()
        if self.key_down:
            self._start_burst(now_ms)
        elif state != QUEUED:
            self._return_floor(now_ms, ABANDONED)
        elif self._sends >= 0:
            self._sends = -1
            self._timer_ms = now_ms + T132_MS
            self._events.append(QUEUE_GRANT)

    def _start_burst(self, now_ms):
        self._warned = False
        self._enter(HAS_PERMISSION, now_ms, None)
        self._events.append(GRANTED)

    def _on_queue_position(self, message, now_ms):
        if message.position == mcptt.NOT_QUEUED:
            if self.state == QUEUED and not self.audio_ssrc:
                self.cause = 0
                self._enter_no_permission(FAILED)
            return
        if self.state not in (PENDING_REQUEST, QUEUED):
            return
        changed = self.state != QUEUED or self.position != message.position
        self.position = message.position
        if not self.audio_ssrc:
            self._enter(QUEUED, now_ms, T104_MS)
        if changed:
            self._events.append(QUEUE_POSITION)

    def _set_talker(self, message, buf, now_ms):
        n = message.party_n
        if len(self.talker) != n or bytes(buf[message.party_at : message.party_at + n]) != self.talker:
            self.talker = bytes(buf[message.party_at : message.party_at + n])
        self.talker_ssrc = message.audio_ssrc if message.audio_ssrc >= 0 else 0
        self.may_request = message.permission != 0
        if message.indicator >= 0:
            self.indicator = message.indicator
        self._media_ms = now_ms

    def _clear_talker(self):
        self.talker = b""
        self.talker_ssrc = 0
        self.may_request = True
        self._media_ms = None

    def _lose_floor(self):
        """End a grant that a Floor Taken or Floor Idle contradicts: messages are in order, so it is over."""
        if self.state == HAS_PERMISSION:
            self.cause = 0
            self._enter_no_permission(REVOKED)
        elif self.state == PENDING_RELEASE:
            self._enter_no_permission(None)
        elif self.state == QUEUED and self.audio_ssrc:
            self._enter_no_permission(ABANDONED)

    # --- timers -----------------------------------------------------------------------------------------------------

    def poll(self, now_ms):
        """Run the timers that are due. Call it after every other call and after `next_timer_ms`."""
        if self.state == HAS_PERMISSION:
            if now_ms >= self.talk_end_ms:
                self._return_floor(now_ms, RELEASED)
            elif not self._warned and now_ms >= self.talk_end_ms - WARNING_MS:
                self._warned = True
                self._events.append(TALK_TIME_WARNING)
        elif self._timer_ms is not None and now_ms >= self._timer_ms:
            self._on_timer(now_ms)
        if self._media_ms is not None and now_ms - self._media_ms >= T103_MS:
            self._clear_talker()
            self._events.append(IDLE)
        return self._effects()

    def next_timer_ms(self, now_ms):
        """Return the milliseconds until a timer is due, 0 if one is, None if none runs."""
        due_ms = self._timer_ms
        if self.state == HAS_PERMISSION:
            due_ms = self.talk_end_ms if self._warned else self.talk_end_ms - WARNING_MS
        if self._media_ms is not None and (due_ms is None or self._media_ms + T103_MS < due_ms):
            due_ms = self._media_ms + T103_MS
        return None if due_ms is None else max(0, due_ms - now_ms)

    def _on_timer(self, now_ms):
        self._sends += 1
        if self.state == PENDING_REQUEST:
            if self._sends > _SENDS_MAX:
                self._send_release()  # in case a request arrived after all
                self._enter_no_permission(FAILED)
                return
            self._writer.clear()
            self._write_request()
            self._send()
        elif self.state == PENDING_RELEASE:
            if self._sends > _SENDS_MAX:
                self._enter_no_permission(None)
                return
            self._send_release()
        else:
            self._on_queue_timer(now_ms)
            return
        self._timer_ms = now_ms + (T101_MS << min(self._sends - 1, 2))

    def _on_queue_timer(self, now_ms):
        if self.audio_ssrc:  # T132
            self._return_floor(now_ms, ABANDONED)
        elif self._sends > _C104:
            self._send_release()
            self._enter_no_permission(FAILED)
        else:
            self._writer.clear()
            self._writer.begin(mcptt.QUEUE_POSITION_REQUEST, self.ssrc)
            self._writer.end()
            self._send()
            self._timer_ms = now_ms + T104_MS

    # --- states and messages ----------------------------------------------------------------------------------------

    def _enter(self, state, now_ms, timer_ms):
        self.state = state
        self._sends = 1 if state != QUEUED else 0
        self._timer_ms = None if timer_ms is None else now_ms + timer_ms

    def _enter_no_permission(self, event):
        """Enter NO_PERMISSION and emit `event`, unless it is None."""
        self._clear_grant()
        self.state = NO_PERMISSION
        self._timer_ms = None
        if event is not None:
            self._events.append(event)

    def _clear_grant(self):
        if self.audio_ssrc:
            self._returned_ssrc = self.audio_ssrc
        self.audio_ssrc = 0
        self.position = 0

    def _return_floor(self, now_ms, event):
        self._clear_grant()
        self._send_release()
        self._enter(PENDING_RELEASE, now_ms, T100_MS)
        self._events.append(event)

    def _write_request(self):
        w = self._writer
        w.begin(mcptt.REQUEST, self.ssrc)
        w.pair(mcptt.PRIORITY, self._priority)
        w.text(mcptt.USER_ID, self._user)
        w.word(mcptt.INDICATOR, self._requested_indicator)
        w.end()

    def _write_release(self):
        w = self._writer
        w.begin(mcptt.RELEASE, self.ssrc, True)
        w.text(mcptt.USER_ID, self._user)
        w.end()

    def _send_release(self):
        self._writer.clear()
        self._write_release()
        self._send()

    def _send_ack(self, kind):
        w = self._writer
        w.clear()
        w.begin(mcptt.ACK, self.ssrc)
        w.word(mcptt.SOURCE, mcptt.PARTICIPANT)
        w.pair(mcptt.MESSAGE_TYPE, kind)
        w.end()
        self._send()

    def _send(self):
        self._datagrams.append(bytes(memoryview(self._buf)[: self._writer.n]))

    def _effects(self, error=None):
        if not self._datagrams and not self._events and error is None:
            return NO_EFFECTS
        effects = Effects(self._datagrams, self._events, error)
        self._datagrams = []
        self._events = []
        return effects
