"""The hub's floor machine: grants, queue, pre-emption, timers, and invalid messages (TS 24.380 6.3.4, 6.3.5)."""

import pytest
from patrolink.hub.voice import floor
from patrolink.hub.voice.floor import Floor
from patrolink.hub.voice.floor_types import FloorEvent, FloorEventKind, FloorMessage, FloorRules, FloorState, Member
from patrolink_protocol import mcptt as m

HUB = 0x00A00001
ALL_RIGHTS = frozenset(("talk", "emergency", "broadcast"))


class FloorHarness:
    """A floor with its members `a`, `b`, `c`.

    Attributes:
        sent: Messages that the floor has sent: pairs of member name and message.
        events: FloorEvents that the floor has returned.
    """

    def __init__(self, rules=None, names="abc", rights=ALL_RIGHTS):
        self.now_ms = 0
        self.sent = []
        self.events = []
        self.last_ssrc = 100
        self.storage_full = ""
        self.index = 0
        self.floor = Floor(rules or FloorRules(), HUB, self.new_ssrc)
        self.floor.start(0)
        for i, name in enumerate(names):
            member = Member(name, 0x80000001 + i, 10 * (i + 1), rights, b"sip:" + name.encode())
            setattr(self, name, member)
            self.floor.join(member)
            self.floor.sync(member, 0)
        self.take_effects()
        self.sent.clear()

    def new_ssrc(self, is_emergency):
        if self.storage_full and not (is_emergency and self.storage_full == "reserved"):
            raise OSError(28, "No space left on device")
        self.last_ssrc += 1
        return self.last_ssrc

    def take_effects(self):
        for effect in self.floor.take_effects():
            if isinstance(effect, FloorEvent):
                self.events.append(effect)
            else:
                self.record(effect)

    def record(self, effect: FloorMessage):
        offset = 0
        while offset < len(effect.data):
            message = m.Message()
            offset = message.read(effect.data, offset, len(effect.data), m.DOWNLINK_TYPES)
            assert message.ssrc == HUB
            self.sent.append((effect.member.name, message))

    def take_sent(self):
        """Return and remove the messages sent: pairs of member name and message type."""
        sent, self.sent = self.sent, []
        return [(name, m.MESSAGE_NAMES[message.type]) for name, message in sent]

    def receive(self, member, data, index=None):
        if index is None:
            self.index += 1
            index = self.index
        try:
            self.floor.receive(member, data, index, self.now_ms)
        finally:
            self.take_effects()

    def send(self, member, message_type, priority=0, indicator=m.NORMAL | m.QUEUEING, ack=False, ssrc=None):
        writer = m.Writer(bytearray(128))
        writer.begin(message_type, member.ssrc if ssrc is None else ssrc, ack)
        if message_type == m.REQUEST:
            writer.pair(m.PRIORITY, priority)
            writer.word(m.INDICATOR, indicator)
        n = writer.end()
        self.receive(member, bytes(writer.buf[:n]))

    def request(self, member, priority=0, indicator=m.NORMAL | m.QUEUEING):
        self.send(member, m.REQUEST, priority, indicator)

    def voice(self, member, ssrc, now_ms):
        forwarded = self.floor.voice(member, ssrc, now_ms)
        self.take_effects()
        return forwarded

    def run(self, ms, talker=None):
        """Advance the time. During a burst, `talker` sends voice."""
        end_ms = self.now_ms + ms
        while self.now_ms < end_ms:
            self.now_ms += 20
            if talker is not None and self.floor.burst is not None:
                self.voice(talker, self.floor.burst.ssrc, self.now_ms)
            self.floor.poll(self.now_ms)
            self.take_effects()


def test_burst_from_request_to_release():
    group = FloorHarness()
    group.request(group.a)
    granted = group.sent[0][1]
    assert group.take_sent() == [("a", "Granted"), ("b", "Taken"), ("c", "Taken")]
    assert granted.duration == 30 and granted.audio_ssrc == 101 and granted.ack
    assert group.voice(group.a, 101, 10)
    assert not group.voice(group.b, 101, 10), "SSRC of another member"
    group.take_sent()
    group.send(group.a, m.RELEASE, ack=True)
    assert group.take_sent() == [("a", "Ack"), ("a", "Idle"), ("b", "Idle"), ("c", "Idle")]
    kinds = [event.kind for event in group.events if event.kind != FloorEventKind.NO_PERMISSION]
    assert kinds == [FloorEventKind.BEGIN, FloorEventKind.END]


def test_ack_echoes_the_type_without_its_ack_bit():
    group = FloorHarness()
    group.request(group.a)
    group.sent.clear()
    group.send(group.a, m.RELEASE, ack=True)
    assert group.sent[0][1].acked == m.RELEASE and group.sent[0][1].source == m.CONTROLLING


def test_server_limits_priority_and_rights_of_a_request():
    group = FloorHarness(rights=frozenset(("talk",)))
    group.request(group.c, priority=5)
    group.take_sent()
    group.request(group.a, priority=255, indicator=m.EMERGENCY | m.QUEUEING)
    assert group.floor.burst.member is group.a and group.floor.burst.priority == 10
    assert not group.floor.burst.indicator & m.EMERGENCY
    group.request(group.c, priority=30)
    assert group.floor.burst.member is group.c, "a higher priority takes the floor"


def test_queue_is_ordered_and_its_head_is_granted():
    group = FloorHarness(FloorRules(preempt=False))
    group.request(group.a)
    group.take_sent()
    group.request(group.b, priority=1)
    group.now_ms = 5
    group.request(group.c, priority=9)
    positions = [(name, message.position) for name, message in group.sent]
    assert positions == [("b", 1), ("c", 1), ("b", 2)]
    group.take_sent()
    group.send(group.a, m.RELEASE)
    assert group.take_sent()[:2] == [("b", "Queue Position Info"), ("c", "Granted")]


def test_queue_position_of_a_member_that_is_not_queued_is_254():
    group = FloorHarness(FloorRules(preempt=False))
    group.request(group.a)
    group.sent.clear()
    group.send(group.b, m.QUEUE_POSITION_REQUEST)
    assert group.sent[0][1].position == m.NOT_QUEUED


def test_request_without_queueing_or_with_a_full_queue_is_denied():
    group = FloorHarness(FloorRules(preempt=False, queue=1))
    group.request(group.a)
    group.request(group.b, indicator=m.NORMAL)
    assert group.sent[-1][1].type == m.DENY and group.sent[-1][1].cause == m.DENY_TAKEN
    group.request(group.b)
    group.request(group.c)
    assert group.sent[-1][1].cause == m.DENY_QUEUE_FULL


def test_emergency_preempts_and_has_its_own_talk_time():
    group = FloorHarness(FloorRules(preempt=False))
    group.request(group.c, priority=30)
    group.sent.clear()
    group.request(group.a, indicator=m.EMERGENCY)
    assert group.take_sent() == [("c", "Revoke"), ("a", "Granted"), ("b", "Taken"), ("c", "Taken")]
    assert group.floor.burst.ends_ms == 120_000
    group.request(group.c, priority=30, indicator=m.NORMAL)
    assert group.floor.burst.member is group.a


def test_broadcast_permits_no_requests_except_emergencies():
    group = FloorHarness()
    group.request(group.c, priority=30, indicator=m.BROADCAST)
    floor_taken = next(message for name, message in group.sent if name == "a")
    assert floor_taken.permission == 0
    group.sent.clear()
    group.request(group.a)
    assert group.sent[0][1].cause == m.DENY_RECEIVE_ONLY
    group.request(group.b, indicator=m.EMERGENCY)
    assert group.floor.burst.member is group.b


def test_burst_is_revoked_after_t2_and_ends_after_t3():
    group = FloorHarness()
    group.request(group.a)
    group.run(30_020, group.a)
    assert group.floor.state == FloorState.PENDING_REVOKE
    revokes = [message for _, message in group.sent if message.type == m.REVOKE]
    assert revokes[0].cause == m.REVOKE_TOO_LONG
    group.run(floor.T3_MS, group.a)
    assert group.floor.state == FloorState.IDLE and group.floor.burst is None


def test_floor_is_idle_t1_after_the_last_voice_packet():
    group = FloorHarness()
    group.request(group.a)
    group.run(1000, group.a)
    group.run(floor.T1_MS)
    assert group.floor.state == FloorState.IDLE


def test_grant_is_repeated_until_it_is_acknowledged():
    group = FloorHarness()
    group.request(group.a)
    group.run(2000)
    assert [entry for entry in group.take_sent() if entry[1] == "Granted"] == [("a", "Granted")] * floor.C20
    other = FloorHarness()
    other.request(other.a)
    writer = m.Writer(bytearray(64))
    writer.begin(m.ACK, other.a.ssrc)
    writer.word(m.SOURCE, m.PARTICIPANT)
    writer.pair(m.MESSAGE_TYPE, m.GRANTED)
    other.now_ms = 10
    other.receive(other.a, bytes(writer.buf[: writer.end()]))
    other.run(2000)
    assert [entry for entry in other.take_sent() if entry[1] == "Granted"] == [("a", "Granted")]


def test_voice_without_the_floor_is_revoked_with_cause_3_once_a_second():
    group = FloorHarness()
    for now_ms in range(0, 2000, 20):
        assert not group.voice(group.b, 5555, now_ms)
    causes = [message.cause for name, message in group.sent if message.type == m.REVOKE]
    assert causes == [m.REVOKE_NO_PERMISSION] * 2


def test_holder_that_requests_again_after_it_talked_gets_a_new_ssrc():
    group = FloorHarness()
    group.request(group.a)
    group.request(group.a)
    assert group.floor.burst.ssrc == 101, "without voice, the grant is assumed lost and repeated"
    group.voice(group.a, 101, 5)
    group.request(group.a)
    assert group.floor.burst.ssrc == 102
    assert not group.voice(group.a, 101, 6), "only one SSRC is forwarded"


def test_late_voice_is_forwarded_for_its_own_talker_only():
    group = FloorHarness()
    group.request(group.a)
    group.send(group.a, m.RELEASE)
    assert group.voice(group.a, 101, 300) and not group.voice(group.b, 101, 300)
    assert not group.voice(group.a, 101, 500)
    group.request(group.a)
    group.sent.clear()
    assert not group.voice(group.a, 101, 510)
    assert group.take_sent() == [], "late voice of the previous burst does not revoke the current one"


def test_request_past_the_talk_time_is_queued_behind_others():
    group = FloorHarness(FloorRules(preempt=False))
    group.request(group.a)
    group.request(group.b)
    group.run(30_020, group.a)
    group.request(group.a)
    assert group.floor.burst.member is group.b and [entry.member for entry in group.floor.queue] == [group.a]


def test_idle_and_taken_are_repeated():
    group = FloorHarness()
    group.request(group.a)
    group.run(3900, group.a)
    assert group.take_sent().count(("b", "Taken")) == 1 + floor.C7
    group.send(group.a, m.RELEASE)
    group.run(10_000)
    assert group.take_sent().count(("b", "Idle")) == 1 + floor.C7


def test_late_entry_reports_the_talker_and_repeats_the_grant_to_the_holder():
    group = FloorHarness()
    group.request(group.a)
    group.sent.clear()
    group.floor.sync(group.b, 100)
    group.floor.sync(group.a, 100)
    group.take_effects()
    assert group.take_sent() == [("b", "Taken"), ("a", "Granted")]


def test_only_an_emergency_is_granted_while_no_other_member_is_present():
    group = FloorHarness()
    group.b.present = group.c.present = False
    group.request(group.a)
    assert group.sent[0][1].cause == m.DENY_ALONE
    group.request(group.a, indicator=m.EMERGENCY)
    assert group.floor.burst is not None, "an emergency is recorded, and members who appear later receive it"


def test_voice_under_way_at_the_end_of_a_burst_is_forwarded():
    group = FloorHarness()
    group.request(group.a)
    group.voice(group.a, 101, 10)
    group.send(group.a, m.RELEASE)
    assert group.voice(group.a, 101, 100) and not group.voice(group.a, 101, 5000)


def test_member_that_leaves_loses_floor_and_queue_position():
    group = FloorHarness(FloorRules(preempt=False))
    group.request(group.a)
    group.request(group.b)
    group.request(group.c)
    group.floor.leave(group.b, 10)
    group.floor.leave(group.a, 20)
    assert group.floor.burst.member is group.c and not group.floor.queue


@pytest.mark.parametrize("case", ["spoofed ssrc", "wrong direction", "receive only"])
def test_message_that_a_participant_may_not_send_is_refused(case):
    group = FloorHarness(rights=frozenset() if case == "receive only" else ALL_RIGHTS)
    if case == "receive only":
        group.request(group.a)
        assert group.sent[0][1].cause == m.DENY_RECEIVE_ONLY
        return
    with pytest.raises(m.FloorError):
        if case == "spoofed ssrc":
            group.send(group.a, m.REQUEST, ssrc=group.b.ssrc)
        else:
            group.send(group.a, m.IDLE)
    assert group.floor.burst is None


def test_datagram_older_than_the_newest_is_ignored():
    group = FloorHarness()
    group.request(group.a)
    writer = m.Writer(bytearray(64))
    writer.begin(m.RELEASE, group.a.ssrc)
    group.now_ms = 10
    group.receive(group.a, bytes(writer.buf[: writer.end()]), group.index)
    assert group.floor.burst is not None, "the Release was sent before the Request and arrived late"


def test_effects_of_valid_messages_remain_when_a_later_message_is_invalid():
    group = FloorHarness()
    writer = m.Writer(bytearray(128))
    writer.begin(m.REQUEST, group.a.ssrc)
    writer.word(m.INDICATOR, m.NORMAL)
    writer.end()
    writer.begin(m.RELEASE, group.b.ssrc)
    with pytest.raises(m.FloorError):
        group.receive(group.a, bytes(writer.buf[: writer.end()]))
    assert group.take_sent()[0] == ("a", "Granted")


def test_without_an_ssrc_all_requests_are_denied_and_the_floor_is_idle():
    group = FloorHarness()
    group.request(group.a)
    group.request(group.b)
    group.take_sent()
    group.storage_full = "all"
    group.send(group.a, m.RELEASE)
    assert group.take_sent() == [("b", "Deny"), ("a", "Idle"), ("b", "Idle"), ("c", "Idle")]
    group.request(group.c)
    assert group.take_sent() == [("c", "Deny")] and group.floor.burst is None
    group.storage_full = "reserved"
    group.request(group.c)
    assert group.take_sent() == [("c", "Deny")]
    group.request(group.c, indicator=m.EMERGENCY)
    assert group.take_sent()[0] == ("c", "Granted")
    group.storage_full = ""
    group.send(group.c, m.RELEASE)
    group.request(group.b)
    assert group.floor.burst.member is group.b


def test_the_end_of_a_burst_by_a_timer_without_an_ssrc_leaves_an_idle_floor():
    group = FloorHarness()
    group.request(group.a)
    group.request(group.b)
    group.storage_full = "all"
    group.sent.clear()
    group.run(5000)  # the talker is silent
    assert group.floor.burst is None and not group.floor.queue
    assert [pair for pair in group.take_sent() if pair[1] == "Deny"] == [("b", "Deny")]
