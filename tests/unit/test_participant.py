"""Floor participant: states, timers and invalid messages (TS 24.380, 6.2.4)."""

from patrolink_protocol import mcptt, participant

OWN_SSRC, HUB_SSRC, AUDIO_SSRC = 0x80000001, 0x00A00001, 0x00000007
USER = b"sip:a@circle"


class FloorServer:
    """Test double of the floor control server: records messages of the participant, and sends messages to it."""

    def __init__(self):
        self.floor = participant.Participant(OWN_SSRC, USER)
        self._received = []
        self._events = []
        self._index = 0
        self.writer = mcptt.Writer(bytearray(256))

    # --- calls of the participant -----------------------------------------------------------------------------------

    def press(self, now_ms, *args):
        self._apply(self.floor.press(now_ms, *args))

    def release(self, now_ms):
        self._apply(self.floor.release(now_ms))

    def poll(self, now_ms):
        """Run the timers; return milliseconds until the next one."""
        self._apply(self.floor.poll(now_ms))
        return self.floor.next_timer_ms(now_ms)

    def _apply(self, effects):
        self._events += effects.events
        for datagram in effects.datagrams:
            message = mcptt.Message()
            at = 0
            while at < len(datagram):
                at = message.read(datagram, at, len(datagram), mcptt.UPLINK_TYPES)
                assert message.ssrc == OWN_SSRC
                kind = message.type
                self._received.append((mcptt.ACK, message.acked) if kind == mcptt.ACK else kind)

    def received(self):
        """Return the types of the messages since the last call; (ACK, acknowledged type) for a Floor Ack."""
        received, self._received = self._received, []
        return received

    def events(self):
        """Return the events since the last call."""
        events, self._events = self._events, []
        return events

    # --- messages to the participant --------------------------------------------------------------------------------

    def send(self, now_ms, index=None):
        """Deliver the messages of `writer` with the next or an explicit index. Return the error of the effects."""
        self.writer.end()
        self._index += 1
        index = self._index if index is None else index
        effects = self.floor.receive(self.writer.buf, self.writer.n, index, now_ms)
        self._apply(effects)
        return effects.error

    def begin(self, kind, ack=False):
        self.writer.clear()
        self.writer.begin(kind, HUB_SSRC, ack)

    def send_granted(self, now_ms, ssrc=AUDIO_SSRC, seconds=30, index=None):
        self.begin(mcptt.GRANTED, True)
        self.writer.word(mcptt.DURATION, seconds)
        self.writer.audio_ssrc(ssrc)
        self.send(now_ms, index)

    def send_taken(self, now_ms, by=b"sip:b@circle", ssrc=9):
        self.begin(mcptt.TAKEN)
        self.writer.text(mcptt.GRANTED_PARTY, by)
        self.writer.word(mcptt.PERMISSION, 1)
        self.writer.word(mcptt.SEQUENCE, 3)
        self.writer.audio_ssrc(ssrc)
        self.send(now_ms)

    def send_idle(self, now_ms, index=None):
        self.begin(mcptt.IDLE)
        self.writer.word(mcptt.SEQUENCE, 4)
        self.send(now_ms, index)

    def send_deny(self, cause, now_ms):
        self.begin(mcptt.DENY)
        self.writer.word(mcptt.CAUSE, cause)
        self.send(now_ms)

    def send_revoke(self, cause, now_ms):
        self.begin(mcptt.REVOKE)
        self.writer.word(mcptt.CAUSE, cause)
        self.send(now_ms)

    def send_queue_position(self, position, now_ms):
        self.begin(mcptt.QUEUE_POSITION_INFO)
        self.writer.pair(mcptt.QUEUE_INFO, position, 1)
        self.send(now_ms)

    def send_ack(self, kind, now_ms):
        self.begin(mcptt.ACK)
        self.writer.word(mcptt.SOURCE, mcptt.CONTROLLING)
        self.writer.pair(mcptt.MESSAGE_TYPE, kind)
        self.send(now_ms)


def server_with_grant():
    """Return a server that granted the floor at 100 ms."""
    server = FloorServer()
    server.press(0)
    server.send_granted(100)
    server.received()
    server.events()
    assert server.floor.state == participant.HAS_PERMISSION
    return server


def test_press_is_granted_and_released():
    server = FloorServer()
    server.press(0)
    assert server.received() == [mcptt.REQUEST] and server.floor.state == participant.PENDING_REQUEST
    server.send_granted(100)
    assert server.floor.state == participant.HAS_PERMISSION and server.floor.audio_ssrc == AUDIO_SSRC
    assert server.received() == [(mcptt.ACK, mcptt.GRANTED)] and server.events() == [participant.GRANTED]
    server.release(2000)
    assert server.received() == [mcptt.RELEASE] and server.floor.audio_ssrc == 0
    server.send_ack(mcptt.RELEASE, 2100)
    assert server.floor.state == participant.NO_PERMISSION and server.poll(2100) is None
    assert server.events() == [participant.RELEASED]


def test_unanswered_request_is_repeated_then_fails():
    server = FloorServer()
    server.press(0)
    times_ms = []
    now_ms = 0
    while server.floor.state == participant.PENDING_REQUEST:
        now_ms += server.poll(now_ms)
        if server.poll(now_ms) is not None and mcptt.REQUEST in server.received()[-1:]:
            times_ms.append(now_ms)
    assert server.events() == [participant.FAILED] and now_ms < 6000
    assert times_ms == [300, 900, 2100]
    assert server.floor.state == participant.NO_PERMISSION


def test_grant_after_release_is_returned():
    server = FloorServer()
    server.press(0)
    server.release(50)
    assert server.received() == [mcptt.REQUEST, mcptt.RELEASE] and server.events() == [participant.ABANDONED]
    server.send_granted(100)
    assert server.floor.state == participant.PENDING_RELEASE and server.floor.audio_ssrc == 0
    server.send_ack(mcptt.RELEASE, 200)
    server.received()
    server.send_granted(300)  # delayed by the network
    assert server.floor.state == participant.NO_PERMISSION and server.received()[0] == mcptt.RELEASE
    assert participant.GRANTED not in server.events()


def test_press_before_the_release_is_acknowledged():
    server = server_with_grant()
    server.release(1000)
    server.press(1010)
    assert server.received() == [mcptt.RELEASE, mcptt.RELEASE, mcptt.REQUEST]
    assert server.floor.state == participant.PENDING_REQUEST
    server.send_idle(1100)
    server.send_granted(1150, AUDIO_SSRC + 1)
    assert server.floor.state == participant.HAS_PERMISSION and server.floor.audio_ssrc == AUDIO_SSRC + 1


def test_release_and_request_share_a_datagram():
    server = server_with_grant()
    server.release(1000)
    assert [len(server.floor.press(1010).datagrams)] == [1]


def test_older_messages_are_ignored():
    server = server_with_grant()
    server.send_idle(200, index=0)
    assert server.floor.state == participant.HAS_PERMISSION
    server.send_idle(200)
    assert server.floor.state == participant.NO_PERMISSION and participant.REVOKED in server.events()


def test_deny_fails_the_press_with_its_cause():
    server = FloorServer()
    server.press(0)
    server.send_deny(mcptt.DENY_TAKEN, 50)
    assert server.events() == [participant.DENIED] and server.floor.cause == mcptt.DENY_TAKEN
    assert server.floor.state == participant.NO_PERMISSION


def test_revoke_during_a_burst_releases_the_floor():
    server = server_with_grant()
    server.send_revoke(mcptt.REVOKE_PREEMPTED, 500)
    assert server.events() == [participant.REVOKED] and server.floor.cause == mcptt.REVOKE_PREEMPTED
    assert server.floor.audio_ssrc == 0 and server.received() == [mcptt.RELEASE]
    server.send_revoke(mcptt.REVOKE_PREEMPTED, 1000)  # the Floor Release was lost
    assert server.received() == [mcptt.RELEASE]


def test_talk_time_ends_after_a_warning():
    server = server_with_grant()
    assert server.poll(25_099) == 1 and server.events() == []
    server.poll(25_100)
    assert server.events() == [participant.TALK_TIME_WARNING]
    server.poll(30_100)
    assert server.events() == [participant.RELEASED] and server.received() == [mcptt.RELEASE]


def test_queue_position_persists_after_key_up():
    server = FloorServer()
    server.press(0)
    server.send_queue_position(2, 50)
    assert server.floor.state == participant.QUEUED and server.floor.position == 2
    server.release(100)
    server.send_queue_position(1, 2000)
    assert server.events() == [participant.QUEUE_POSITION, participant.QUEUE_POSITION]
    server.send_granted(3000)
    assert server.events() == [participant.QUEUE_GRANT] and server.floor.state == participant.QUEUED
    server.press(3500)
    assert server.events() == [participant.GRANTED] and server.floor.state == participant.HAS_PERMISSION


def test_unused_queue_grant_is_returned_after_t132():
    server = FloorServer()
    server.press(0)
    server.send_queue_position(1, 50)
    server.release(100)
    server.send_granted(3000)
    server.send_granted(3300)  # repeated: does not restart T132
    server.poll(4999)
    assert server.floor.state == participant.QUEUED
    server.received()
    server.poll(5000)
    assert server.received() == [mcptt.RELEASE] and participant.ABANDONED in server.events()


def test_lost_queue_position_fails_the_request():
    server = FloorServer()
    server.press(0)
    server.send_queue_position(1, 50)
    server.received()
    server.poll(4050)
    assert server.received() == [mcptt.QUEUE_POSITION_REQUEST]
    server.send_queue_position(mcptt.NOT_QUEUED, 4100)
    assert participant.FAILED in server.events() and server.floor.state == participant.NO_PERMISSION


def test_talker_without_media_is_cleared_after_t103():
    server = FloorServer()
    server.send_taken(0)
    assert server.floor.talker == b"sip:b@circle" and server.floor.talker_ssrc == 9
    server.floor.media_received(1000)
    server.poll(4999)
    assert server.events() == [participant.TAKEN]
    server.poll(5000)
    assert server.events() == [participant.IDLE] and server.floor.talker == b""


def test_repeated_grant_with_a_new_ssrc_is_accepted():
    server = server_with_grant()
    server.send_granted(200, AUDIO_SSRC + 5)
    assert server.floor.audio_ssrc == AUDIO_SSRC + 5 and server.events() == []


def test_several_messages_in_a_datagram_are_processed():
    server = FloorServer()
    server.press(0)
    server.begin(mcptt.IDLE)
    server.writer.word(mcptt.SEQUENCE, 1)
    server.writer.end()
    server.writer.begin(mcptt.GRANTED, HUB_SSRC, True)
    server.writer.word(mcptt.DURATION, 10)
    server.writer.audio_ssrc(AUDIO_SSRC)
    assert server.send(50) is None
    assert server.floor.state == participant.HAS_PERMISSION


def test_effects_of_the_messages_before_a_malformed_one_are_returned():
    server = FloorServer()
    server.press(0)
    server.received()
    server.begin(mcptt.GRANTED, True)
    server.writer.word(mcptt.DURATION, 10)
    server.writer.audio_ssrc(AUDIO_SSRC)
    server.writer.end()
    server.writer.begin(mcptt.REQUEST, HUB_SSRC)  # a type that servers do not send
    assert isinstance(server.send(50), mcptt.FloorError)
    assert server.floor.state == participant.HAS_PERMISSION
    assert server.received() == [(mcptt.ACK, mcptt.GRANTED)] and server.events() == [participant.GRANTED]
    assert server.floor.poll(60) is participant.NO_EFFECTS


def test_messages_without_a_procedure_are_ignored():
    server = FloorServer()
    server.send_deny(1, 0)
    server.send_revoke(1, 0)
    server.send_queue_position(1, 0)
    server.send_ack(mcptt.RELEASE, 0)
    assert server.events() == [] and server.received() == [] and server.floor.state == participant.NO_PERMISSION


def test_duplicate_of_the_previous_grant_is_ignored():
    server = FloorServer()
    server.press(0)
    server.send_granted(100)
    server.release(200)
    server.press(250)
    server.send_granted(300)
    assert server.floor.state == participant.PENDING_REQUEST
    server.send_granted(400, ssrc=AUDIO_SSRC + 1)
    assert server.floor.state == participant.HAS_PERMISSION and server.floor.audio_ssrc == AUDIO_SSRC + 1


def test_timers_run_after_weeks_of_uptime():
    server = FloorServer()
    now_ms = 1 << 32
    assert server.poll(now_ms) is None
    server.press(now_ms)
    assert server.poll(now_ms) == participant.T101_MS
