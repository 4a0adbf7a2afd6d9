"""The participant's floor machine: states, timers, and what others got wrong (TS 24.380 6.2.4)."""

from agent.ptt import participant
from patrolink_protocol import mcptt as m

OURS, HUB, AUDIO = 0x80000001, 0x00A00001, 0x00000007


class Hub:
    """The other end: keeps what the participant says, and speaks."""

    def __init__(self):
        self.said = []
        self.told = []
        self.index = 0
        self.floor = participant.Participant(OURS, b"sip:a@circle", self.take, self.told.append)
        self.writer = m.Writer(bytearray(256))

    def take(self, view):
        message = m.Message()
        at = 0
        while at < len(view):
            at = message.read(view, at, len(view), m.UPWARD)
            assert message.ssrc == OURS
            self.said.append(message.type if message.type != m.ACK else (m.ACK, message.acked))

    def heard(self):
        said, self.said = self.said, []
        return said

    def events(self):
        told = list(self.told)
        self.told.clear()
        return told

    def say(self, now, index=None):
        self.writer.end()
        self.index += 1
        self.floor.receive(self.writer.buf, self.writer.n, self.index if index is None else index, now)

    def grant(self, now, ssrc=AUDIO, seconds=30, index=None):
        w = self.writer
        w.clear()
        w.begin(m.GRANTED, HUB, True)
        w.word(m.DURATION, seconds)
        w.audio_ssrc(ssrc)
        self.say(now, index)

    def taken(self, now, by=b"sip:b@circle", ssrc=9):
        w = self.writer
        w.clear()
        w.begin(m.TAKEN, HUB)
        w.text(m.GRANTED_PARTY, by)
        w.word(m.PERMISSION, 1)
        w.word(m.SEQUENCE, 3)
        w.audio_ssrc(ssrc)
        self.say(now)

    def idle(self, now, index=None):
        w = self.writer
        w.clear()
        w.begin(m.IDLE, HUB)
        w.word(m.SEQUENCE, 4)
        self.say(now, index)

    def cause(self, kind, cause, now):
        w = self.writer
        w.clear()
        w.begin(kind, HUB)
        w.word(m.CAUSE, cause)
        self.say(now)

    def place(self, position, now):
        w = self.writer
        w.clear()
        w.begin(m.QUEUE_POSITION_INFO, HUB)
        w.pair(m.QUEUE_INFO, position, 1)
        self.say(now)

    def ack(self, kind, now):
        w = self.writer
        w.clear()
        w.begin(m.ACK, HUB)
        w.word(m.SOURCE, m.CONTROLLING)
        w.pair(m.MESSAGE_TYPE, kind)
        self.say(now)


def talking(hub, now=0):
    hub.floor.press(now)
    hub.grant(now + 100)
    hub.heard()
    hub.events()
    assert hub.floor.state == participant.HAS_PERMISSION
    return hub


def test_press_grant_release():
    hub = Hub()
    hub.floor.press(0)
    assert hub.heard() == [m.REQUEST] and hub.floor.state == participant.PENDING_REQUEST
    hub.grant(100)
    assert hub.floor.state == participant.HAS_PERMISSION and hub.floor.audio_ssrc == AUDIO
    assert hub.heard() == [(m.ACK, m.GRANTED)] and hub.events() == [participant.GRANTED]
    hub.floor.release(2000)
    assert hub.heard() == [m.RELEASE] and hub.floor.audio_ssrc == 0
    hub.ack(m.RELEASE, 2100)
    assert hub.floor.state == participant.NO_PERMISSION and hub.floor.poll(2100) is None
    assert hub.events() == [participant.ENDED]


def test_a_request_without_an_answer_is_said_again_and_given_up():
    hub = Hub()
    hub.floor.press(0)
    times = []
    now = 0
    while hub.floor.state == participant.PENDING_REQUEST:
        now += hub.floor.poll(now)
        if hub.floor.poll(now) is not None and m.REQUEST in hub.heard()[-1:]:
            times.append(now)
    assert hub.events() == [participant.FAILED] and now < 6000
    assert times == [300, 900, 2100]
    assert hub.floor.state == participant.NO_PERMISSION


def test_a_grant_that_comes_too_late_is_given_back():
    hub = Hub()
    hub.floor.press(0)
    hub.floor.release(50)
    assert hub.heard() == [m.REQUEST, m.RELEASE] and hub.events() == [participant.ABANDONED]
    hub.grant(100)
    assert hub.floor.state == participant.PENDING_RELEASE and hub.floor.audio_ssrc == 0
    hub.ack(m.RELEASE, 200)
    hub.heard()
    hub.grant(300)  # a network that had forgotten it
    assert hub.floor.state == participant.NO_PERMISSION and hub.heard()[0] == m.RELEASE
    assert participant.GRANTED not in hub.events()


def test_pressed_again_before_the_release_was_answered():
    hub = talking(Hub())
    hub.floor.release(1000)
    hub.floor.press(1010)
    assert hub.heard() == [m.RELEASE, m.RELEASE, m.REQUEST] and hub.floor.state == participant.PENDING_REQUEST
    hub.idle(1100)
    hub.grant(1150, AUDIO + 1)
    assert hub.floor.state == participant.HAS_PERMISSION and hub.floor.audio_ssrc == AUDIO + 1


def test_older_messages_change_nothing():
    hub = talking(Hub())
    hub.idle(200, index=0)
    assert hub.floor.state == participant.HAS_PERMISSION
    hub.idle(200)
    assert hub.floor.state == participant.NO_PERMISSION and participant.REVOKED in hub.events()


def test_denied():
    hub = Hub()
    hub.floor.press(0)
    hub.cause(m.DENY, m.DENY_TAKEN, 50)
    assert hub.events() == [participant.DENIED] and hub.floor.cause == m.DENY_TAKEN
    assert hub.floor.state == participant.NO_PERMISSION


def test_revoked_while_talking_releases():
    hub = talking(Hub())
    hub.cause(m.REVOKE, m.REVOKE_PREEMPTED, 500)
    assert hub.events() == [participant.REVOKED] and hub.floor.cause == m.REVOKE_PREEMPTED
    assert hub.floor.audio_ssrc == 0 and hub.heard() == [m.RELEASE]
    hub.cause(m.REVOKE, m.REVOKE_PREEMPTED, 1000)  # our Release was lost
    assert hub.heard() == [m.RELEASE]


def test_talk_time_ends_with_a_warning_before():
    hub = talking(Hub())  # granted at 100
    assert hub.floor.poll(25_099) == 1 and hub.events() == []
    hub.floor.poll(25_100)
    assert hub.events() == [participant.WARNING]
    hub.floor.poll(30_100)
    assert hub.events() == [participant.ENDED] and hub.heard() == [m.RELEASE]


def test_queue_holds_the_place_when_the_key_is_up():
    hub = Hub()
    hub.floor.press(0)
    hub.place(2, 50)
    assert hub.floor.state == participant.QUEUED and hub.floor.position == 2
    hub.floor.release(100)
    hub.place(1, 2000)
    assert hub.events() == [participant.PLACED, participant.PLACED]
    hub.grant(3000)
    assert hub.events() == [participant.YOUR_TURN] and hub.floor.state == participant.QUEUED
    hub.floor.press(3500)
    assert hub.events() == [participant.GRANTED] and hub.floor.state == participant.HAS_PERMISSION


def test_a_turn_that_is_not_used_goes_back_after_t132():
    hub = Hub()
    hub.floor.press(0)
    hub.place(1, 50)
    hub.floor.release(100)
    hub.grant(3000)
    hub.grant(3300)  # said again: T132 goes on
    hub.floor.poll(4999)
    assert hub.floor.state == participant.QUEUED
    hub.heard()
    hub.floor.poll(5000)
    assert hub.heard() == [m.RELEASE] and participant.ABANDONED in hub.events()


def test_a_hub_that_forgot_the_queue_ends_the_waiting():
    hub = Hub()
    hub.floor.press(0)
    hub.place(1, 50)
    hub.heard()
    hub.floor.poll(4050)
    assert hub.heard() == [m.QUEUE_POSITION_REQUEST]
    hub.place(m.NOT_QUEUED, 4100)
    assert participant.FAILED in hub.events() and hub.floor.state == participant.NO_PERMISSION


def test_a_talker_that_falls_silent_is_gone_after_t103():
    hub = Hub()
    hub.taken(0)
    assert hub.floor.talker == b"sip:b@circle" and hub.floor.talker_ssrc == 9
    hub.floor.heard(1000)
    hub.floor.poll(4999)
    assert hub.events() == [participant.TAKEN]
    hub.floor.poll(5000)
    assert hub.events() == [participant.IDLE] and hub.floor.talker == b""


def test_a_grant_said_again_with_a_new_ssrc_is_taken():
    hub = talking(Hub())
    hub.grant(200, AUDIO + 5)
    assert hub.floor.audio_ssrc == AUDIO + 5 and hub.events() == []


def test_several_messages_in_one_datagram():
    hub = Hub()
    hub.floor.press(0)
    w = hub.writer
    w.clear()
    w.begin(m.IDLE, HUB)
    w.word(m.SEQUENCE, 1)
    w.end()
    w.begin(m.GRANTED, HUB, True)
    w.word(m.DURATION, 10)
    w.audio_ssrc(AUDIO)
    hub.say(50)
    assert hub.floor.state == participant.HAS_PERMISSION


def test_what_has_no_procedure_is_passed_over():
    hub = Hub()
    hub.cause(m.DENY, 1, 0)
    hub.cause(m.REVOKE, 1, 0)
    hub.place(1, 0)
    hub.ack(m.RELEASE, 0)
    assert hub.events() == [] and hub.heard() == [] and hub.floor.state == participant.NO_PERMISSION


def test_a_grant_that_was_under_way_at_the_release_is_none_for_the_next_press():
    hub = Hub()
    hub.floor.press(0)
    hub.grant(100)
    hub.floor.release(200)
    hub.floor.press(250)
    hub.grant(300)
    assert hub.floor.state == participant.PENDING_REQUEST
    hub.grant(400, ssrc=AUDIO + 1)
    assert hub.floor.state == participant.HAS_PERMISSION and hub.floor.audio_ssrc == AUDIO + 1


def test_timers_after_weeks():
    hub = Hub()
    now = 1 << 32
    assert hub.floor.poll(now) is None
    hub.floor.press(now)
    assert hub.floor.poll(now) == participant.T101_MS
