"""Floor control as a participant sees it: one machine a group (3GPP TS 24.380 6.2.4). Pure; time is handed in.

Messages must be in order: one that is older than the newest taken is dropped (`index` is SRTCP's), for whatever it
carried was said again or has been overtaken. What has no procedure in a state is passed over, and the state kept.
"""

from patrolink_protocol import mcptt as m

NO_PERMISSION, PENDING_REQUEST, HAS_PERMISSION, PENDING_RELEASE, QUEUED = range(5)

# What is told. `cause`, `position`, `talker` and `audio_ssrc` of the machine say more.
GRANTED = 1  # speak
DENIED = 2  # `cause` of Deny
REVOKED = 3  # stop; `cause` of Revoke, 0 when it was lost without one
FAILED = 4  # no answer
PLACED = 5  # in the queue, at `position`
YOUR_TURN = 6  # the queue has come to us, and the key is up: press within T132
ABANDONED = 7  # let go before an answer, or T132 has passed
WARNING = 8  # the talk time ends in WARN_MS
ENDED = 9  # released by us, or at the end of the talk time
TAKEN = 10  # `talker` speaks
IDLE = 11  # nobody speaks

T100_MS = T101_MS = 300  # resend of Release and Request; doubled twice
_SENDS = 4
T103_MS = 4000  # end of voice
T104_MS = 4000  # question for the place in the queue
_C104 = 3
T132_MS = 2000  # granted out of the queue, and not used
WARN_MS = 5000


class Participant:
    """
    ssrc   ours in this group
    user   our MCPTT ID, bytes
    send   function(view): protect one plain datagram and send it
    tell   function(event): one of the events above
    """

    def __init__(self, ssrc, user, send, tell):
        self.ssrc = ssrc
        self._user = user
        self._send = send
        self._tell = tell
        self._buf = bytearray(256)
        self._view = memoryview(self._buf)
        self._writer = m.Writer(self._buf)
        self._message = m.Message()
        self.state = NO_PERMISSION
        self.key = False  # down
        self.audio_ssrc = 0  # granted to us
        self._given_back = 0  # the one before
        self.talker = b""  # of another; empty when nobody speaks
        self.talker_ssrc = 0
        self.indicator = 0  # of the burst that is on
        self.may_request = True
        self.cause = 0
        self.position = 0
        self.ends_ms = 0  # of our talk time
        self._warned = False
        self._index = -1  # of the newest datagram
        self._priority = self._asked = 0
        self._resend_ms = None  # T100, T101, T104, T132: what the state waits for
        self._sends = 0
        self._heard_ms = None  # voice of the talker: T103

    # --- the wearer -----------------------------------------------------------------------------------------------

    def press(self, now_ms, priority=0, indicator=m.NORMAL):
        """The key is down: ask for the floor, or take the turn that has come."""
        self.key = True
        if self.state == QUEUED:
            if self.audio_ssrc:
                self._begin(now_ms)
            return
        if self.state not in (NO_PERMISSION, PENDING_RELEASE):
            return
        self._priority = priority
        self._asked = indicator | m.QUEUEING
        self._writer.clear()
        if self.state == PENDING_RELEASE:
            self._release()  # in one datagram, so that they cannot change places
        self.audio_ssrc = 0
        self._request()
        self._go(PENDING_REQUEST, now_ms, T101_MS)

    def release(self, now_ms):
        """The key is up: end the burst, or the wish for it. A place in the queue is kept: see `cancel`."""
        self.key = False
        if self.state == HAS_PERMISSION:
            self._let_go(now_ms, ENDED)
        elif self.state == PENDING_REQUEST:
            self._let_go(now_ms, ABANDONED)

    def cancel(self, now_ms):
        """Leave the queue."""
        if self.state == QUEUED:
            self._let_go(now_ms, ABANDONED)

    def heard(self, now_ms):
        """A packet of the talker's voice has come."""
        self._heard_ms = now_ms

    # --- the hub ----------------------------------------------------------------------------------------------------

    def receive(self, buf, n, index, now_ms):
        """Take a genuine plain datagram; FloorError, and the rest of it is lost, at what the hub does not send."""
        if index <= self._index:
            return
        self._index = index
        message = self._message
        at = 0
        while at < n:
            at = message.read(buf, at, n, m.DOWNWARD)
            self._take(message, buf, now_ms)
            if message.ack:
                self._acknowledge(message.type)

    def _take(self, message, buf, now_ms):
        kind = message.type
        state = self.state
        if kind == m.TAKEN:
            self._set_talker(message, buf, now_ms)
            self._other_has_it(now_ms)
            self._tell(TAKEN)
        elif kind == m.IDLE:
            self._nobody()
            self._other_has_it(now_ms)
            self._tell(IDLE)
        elif kind == m.GRANTED:
            self._granted(message, now_ms)
        elif kind == m.DENY:
            if state in (PENDING_REQUEST, QUEUED):
                self.cause = message.cause
                self._rest(DENIED)
        elif kind == m.REVOKE:
            if state == HAS_PERMISSION or state == QUEUED and self.audio_ssrc:
                self.cause = message.cause
                self._let_go(now_ms, REVOKED)
            elif state == PENDING_RELEASE:
                self._say_release()
        elif kind == m.QUEUE_POSITION_INFO:
            self._placed(message, now_ms)
        elif kind == m.ACK:
            if state == PENDING_RELEASE and message.acked == m.RELEASE:
                self._rest(0)

    def _granted(self, message, now_ms):
        state = self.state
        if state == NO_PERMISSION:
            self._say_release()  # of a wish that was given up: nobody shall wait for us
            return
        if state == PENDING_RELEASE or state != HAS_PERMISSION and message.audio_ssrc == self._given_back:
            return  # it crossed our Release, which is on its way
        if message.duration <= 0:
            return
        self.audio_ssrc = message.audio_ssrc
        if message.indicator >= 0:
            self.indicator = message.indicator
        self.ends_ms = now_ms + message.duration * 1000
        if state == HAS_PERMISSION:
            return  # said again; with a new SSRC where the hub has begun a new burst
        self._nobody()
        if self.key:
            self._begin(now_ms)
        elif state == QUEUED:
            if self._sends >= 0:
                self._sends = -1  # T132 runs from now on
                self._resend_ms = now_ms + T132_MS
                self._tell(YOUR_TURN)
        else:
            self._let_go(now_ms, ABANDONED)

    def _begin(self, now_ms):
        self._warned = False
        self._go(HAS_PERMISSION, now_ms, None)
        self._tell(GRANTED)

    def _placed(self, message, now_ms):
        if message.position == m.NOT_QUEUED:
            if self.state == QUEUED and not self.audio_ssrc:
                self.cause = 0
                self._rest(FAILED)
            return
        if self.state not in (PENDING_REQUEST, QUEUED):
            return
        changed = self.state != QUEUED or self.position != message.position
        self.position = message.position
        if not self.audio_ssrc:
            self._go(QUEUED, now_ms, T104_MS)
        if changed:
            self._tell(PLACED)

    def _set_talker(self, message, buf, now_ms):
        n = message.party_n
        if len(self.talker) != n or bytes(buf[message.party_at : message.party_at + n]) != self.talker:
            self.talker = bytes(buf[message.party_at : message.party_at + n])
        self.talker_ssrc = message.audio_ssrc if message.audio_ssrc >= 0 else 0
        self.may_request = message.permission != 0
        if message.indicator >= 0:
            self.indicator = message.indicator
        self._heard_ms = now_ms

    def _nobody(self):
        self.talker = b""
        self.talker_ssrc = 0
        self.may_request = True
        self._heard_ms = None

    def _other_has_it(self, now_ms):
        """The hub says that the floor is not ours (its messages are in order)."""
        if self.state == HAS_PERMISSION:
            self.cause = 0
            self._rest(REVOKED)
        elif self.state == PENDING_RELEASE:
            self._rest(0)
        elif self.state == QUEUED and self.audio_ssrc:  # our turn is over
            self._rest(ABANDONED)

    # --- time -------------------------------------------------------------------------------------------------------

    def poll(self, now_ms):
        """Run the timers; return milliseconds until the next one is due, None when none runs."""
        state = self.state
        if state == HAS_PERMISSION:
            if now_ms >= self.ends_ms:
                self._let_go(now_ms, ENDED)
            elif not self._warned and now_ms >= self.ends_ms - WARN_MS:
                self._warned = True
                self._tell(WARNING)
        elif self._resend_ms is not None and now_ms >= self._resend_ms:
            self._again(now_ms)
        if self._heard_ms is not None and now_ms - self._heard_ms >= T103_MS:
            self._nobody()
            self._tell(IDLE)
        return self._next(now_ms)

    def _next(self, now_ms):
        due = self._resend_ms
        if self.state == HAS_PERMISSION:
            due = self.ends_ms if self._warned else self.ends_ms - WARN_MS
        if self._heard_ms is not None and (due is None or self._heard_ms + T103_MS < due):
            due = self._heard_ms + T103_MS
        return None if due is None else max(0, due - now_ms)

    def _again(self, now_ms):
        state = self.state
        self._sends += 1
        if state == PENDING_REQUEST:
            if self._sends > _SENDS:
                self._say_release()  # should it have arrived after all
                self._rest(FAILED)
                return
            self._writer.clear()
            self._request()
        elif state == PENDING_RELEASE:
            if self._sends > _SENDS:
                self._rest(0)
                return
            self._say_release()
        elif state == QUEUED:
            if self.audio_ssrc:
                self._let_go(now_ms, ABANDONED)
                return
            if self._sends > _C104:
                self._say_release()
                self._rest(FAILED)
                return
            self._writer.clear()
            self._writer.begin(m.QUEUE_POSITION_REQUEST, self.ssrc)
            self._out()
            self._resend_ms = now_ms + T104_MS
            return
        self._resend_ms = now_ms + (T101_MS << min(self._sends - 1, 2))

    # --- states and messages ----------------------------------------------------------------------------------------

    def _go(self, state, now_ms, wait_ms):
        self.state = state
        self._sends = 1 if state != QUEUED else 0
        self._resend_ms = None if wait_ms is None else now_ms + wait_ms

    def _rest(self, event):
        """Back to having no permission; `event` 0 tells nothing."""
        self._give_back()
        self.state = NO_PERMISSION
        self._resend_ms = None
        if event:
            self._tell(event)

    def _give_back(self):
        if self.audio_ssrc:
            self._given_back = self.audio_ssrc
        self.audio_ssrc = 0
        self.position = 0

    def _let_go(self, now_ms, event):
        self._give_back()
        self._say_release()
        self._go(PENDING_RELEASE, now_ms, T100_MS)
        self._tell(event)

    def _request(self):
        w = self._writer
        w.begin(m.REQUEST, self.ssrc)
        w.pair(m.PRIORITY, self._priority)
        w.text(m.USER_ID, self._user)
        w.word(m.INDICATOR, self._asked)
        self._out()

    def _say_release(self):
        self._writer.clear()
        self._release()
        self._send(self._view[: self._writer.n])

    def _release(self):
        w = self._writer
        w.begin(m.RELEASE, self.ssrc, True)
        w.text(m.USER_ID, self._user)
        w.end()

    def _acknowledge(self, kind):
        w = self._writer
        w.clear()
        w.begin(m.ACK, self.ssrc)
        w.word(m.SOURCE, m.PARTICIPANT)
        w.pair(m.MESSAGE_TYPE, kind)
        self._out()

    def _out(self):
        self._send(self._view[: self._writer.end()])
