"""The hub's floor machine: grants, queue, pre-emption, timers, and what others got wrong (TS 24.380 6.3.4, 6.3.5)."""

import pytest
from patrolink.hub.voice import floor
from patrolink.hub.voice.floor import Floor
from patrolink.hub.voice.floor_types import FloorEventKind, FloorRules, FloorState, Member
from patrolink_protocol import mcptt as m

HUB = 0x00A00001
ALL = frozenset(("talk", "emergency", "broadcast"))


class Site:
    """One group and its members; what they are told is kept as (type, message) pairs."""

    def __init__(self, rules=None, names="abc", rights=ALL):
        self.now = 0
        self.sent = []
        self.events = []
        self.ssrc = 100
        self.floor = Floor(rules or FloorRules(), HUB, self.new_ssrc, self.take, self.events.append)
        self.floor.start(0)
        self.index = 0
        for i, name in enumerate(names):
            member = Member(name, 0x80000001 + i, 10 * (i + 1), rights, b"sip:" + name.encode())
            setattr(self, name, member)
            self.floor.join(member, 0)
            self.floor.sync(member, 0)
        self.sent.clear()

    def new_ssrc(self):
        self.ssrc += 1
        return self.ssrc

    def take(self, member, data):
        at = 0
        while at < len(data):
            message = m.Message()
            at = message.read(data, at, len(data), m.DOWNLINK_TYPES)
            assert message.ssrc == HUB
            self.sent.append((member.name, message))

    def heard(self):
        sent, self.sent = self.sent, []
        return [(name, m.MESSAGE_NAMES[message.type]) for name, message in sent]

    def say(self, member, kind, priority=0, indicator=m.NORMAL | m.QUEUEING, ack=False, ssrc=None):
        writer = m.Writer(bytearray(128))
        writer.begin(kind, member.ssrc if ssrc is None else ssrc, ack)
        if kind == m.REQUEST:
            writer.pair(m.PRIORITY, priority)
            writer.word(m.INDICATOR, indicator)
        n = writer.end()
        self.index += 1
        self.floor.receive(member, bytes(writer.buf[:n]), self.index, self.now)

    def run(self, ms, voice=None):
        end = self.now + ms
        while self.now < end:
            self.now += 20
            if voice is not None and self.floor.burst is not None:
                self.floor.voice(voice, self.floor.burst.ssrc, self.now)
            self.floor.poll(self.now)


def test_a_burst():
    site = Site()
    site.say(site.a, m.REQUEST)
    granted = site.sent[0][1]
    assert site.heard() == [("a", "Granted"), ("b", "Taken"), ("c", "Taken")]
    assert granted.duration == 30 and granted.audio_ssrc == 101 and granted.ack
    assert site.floor.voice(site.a, 101, 10)
    assert not site.floor.voice(site.b, 101, 10), "another one's SSRC"
    site.heard()
    site.say(site.a, m.RELEASE, ack=True)
    assert site.heard() == [("a", "Ack"), ("a", "Idle"), ("b", "Idle"), ("c", "Idle")]
    assert [e.what for e in site.events if e.what != FloorEventKind.REPROACHED] == [
        FloorEventKind.BEGIN,
        FloorEventKind.END,
    ]


def test_an_ack_echoes_the_type_without_its_ack_bit():
    site = Site()
    site.say(site.a, m.REQUEST)
    site.sent.clear()
    site.say(site.a, m.RELEASE, ack=True)
    assert site.sent[0][1].acked == m.RELEASE and site.sent[0][1].source == m.CONTROLLING


def test_the_server_caps_what_a_client_claims():
    site = Site(rights=frozenset(("talk",)))
    site.say(site.c, m.REQUEST, priority=5)
    site.heard()
    site.say(site.a, m.REQUEST, priority=255, indicator=m.EMERGENCY | m.QUEUEING)
    assert site.floor.burst.member is site.a and site.floor.burst.priority == 10
    assert not site.floor.burst.indicator & m.EMERGENCY
    site.say(site.c, m.REQUEST, priority=30)
    assert site.floor.burst.member is site.c, "a higher priority takes the floor"


def test_the_queue_is_ordered_and_its_head_is_granted():
    site = Site(FloorRules(preempt=False))
    site.say(site.a, m.REQUEST)
    site.heard()
    site.say(site.b, m.REQUEST, priority=1)
    site.now = 5
    site.say(site.c, m.REQUEST, priority=9)
    places = [(name, message.position) for name, message in site.sent]
    assert places == [("b", 1), ("c", 1), ("b", 2)]
    site.heard()
    site.say(site.a, m.RELEASE)
    assert site.heard()[:2] == [("b", "Queue Position Info"), ("c", "Granted")]


def test_queue_positions_are_told_and_254_means_not_queued():
    site = Site(FloorRules(preempt=False))
    site.say(site.a, m.REQUEST)
    site.sent.clear()
    site.say(site.b, m.QUEUE_POSITION_REQUEST)
    assert site.sent[0][1].position == m.NOT_QUEUED


def test_without_queueing_or_with_a_full_queue_it_denies():
    site = Site(FloorRules(preempt=False, queue=1))
    site.say(site.a, m.REQUEST)
    site.say(site.b, m.REQUEST, indicator=m.NORMAL)
    assert site.sent[-1][1].type == m.DENY and site.sent[-1][1].cause == m.DENY_TAKEN
    site.say(site.b, m.REQUEST)
    site.say(site.c, m.REQUEST)
    assert site.sent[-1][1].cause == m.DENY_QUEUE_FULL


def test_an_emergency_takes_the_floor_and_is_not_cut_by_t2():
    site = Site(FloorRules(preempt=False))
    site.say(site.c, m.REQUEST, priority=30)
    site.sent.clear()
    site.say(site.a, m.REQUEST, indicator=m.EMERGENCY)
    assert site.heard() == [("c", "Revoke"), ("a", "Granted"), ("b", "Taken"), ("c", "Taken")]
    assert site.floor.burst.ends_ms == 120_000
    site.say(site.c, m.REQUEST, priority=30, indicator=m.NORMAL)
    assert site.floor.burst.member is site.a


def test_a_broadcast_is_not_answered_but_an_emergency_comes_through():
    site = Site()
    site.say(site.c, m.REQUEST, priority=30, indicator=m.BROADCAST)
    taken = next(message for name, message in site.sent if name == "a")
    assert taken.permission == 0
    site.sent.clear()
    site.say(site.a, m.REQUEST)
    assert site.sent[0][1].cause == m.DENY_RECEIVE_ONLY
    site.say(site.b, m.REQUEST, indicator=m.EMERGENCY)
    assert site.floor.burst.member is site.b


def test_talk_time_is_revoked_and_the_floor_is_free_after_t3():
    site = Site()
    site.say(site.a, m.REQUEST)
    site.run(30_020, site.a)
    assert site.floor.state == FloorState.PENDING_REVOKE
    revoke = [message for _, message in site.sent if message.type == m.REVOKE]
    assert revoke[0].cause == m.REVOKE_TOO_LONG
    site.run(floor.T3_MS, site.a)
    assert site.floor.state == FloorState.IDLE and site.floor.burst is None


def test_a_talker_that_vanishes_frees_the_floor_after_t1():
    site = Site()
    site.say(site.a, m.REQUEST)
    site.run(1000, site.a)
    site.run(floor.T1_MS)
    assert site.floor.state == FloorState.IDLE


def test_a_grant_is_said_again_until_it_is_acked():
    site = Site()
    site.say(site.a, m.REQUEST)
    site.run(2000)
    assert [n for n in site.heard() if n[1] == "Granted"] == [("a", "Granted")] * floor.C20
    other = Site()
    other.say(other.a, m.REQUEST)
    writer = m.Writer(bytearray(64))
    writer.begin(m.ACK, other.a.ssrc)
    writer.word(m.SOURCE, m.PARTICIPANT)
    writer.pair(m.MESSAGE_TYPE, m.GRANTED)
    other.floor.receive(other.a, bytes(writer.buf[: writer.end()]), 50, 10)
    other.run(2000)
    assert [n for n in other.heard() if n[1] == "Granted"] == [("a", "Granted")]


def test_voice_without_the_floor_is_answered_with_revoke_3_once_a_second():
    site = Site()
    for now in range(0, 2000, 20):
        assert not site.floor.voice(site.b, 5555, now)
    causes = [message.cause for name, message in site.sent if message.type == m.REVOKE]
    assert causes == [m.REVOKE_NO_PERMISSION] * 2


def test_a_holder_that_asks_again_after_it_spoke_gets_another_ssrc():
    site = Site()
    site.say(site.a, m.REQUEST)
    site.say(site.a, m.REQUEST)
    assert site.floor.burst.ssrc == 101, "its grant was lost"
    site.floor.voice(site.a, 101, 5)
    site.say(site.a, m.REQUEST)
    assert site.floor.burst.ssrc == 102
    assert not site.floor.voice(site.a, 101, 6), "never two"


def test_late_voice_passes_when_it_is_the_talkers_own():
    site = Site()
    site.say(site.a, m.REQUEST)
    site.say(site.a, m.RELEASE)
    assert site.floor.voice(site.a, 101, 300) and not site.floor.voice(site.b, 101, 300)
    assert not site.floor.voice(site.a, 101, 500)
    site.say(site.a, m.REQUEST)
    site.sent.clear()
    assert not site.floor.voice(site.a, 101, 510)
    assert site.heard() == [], "the burst before was late; the one that is on is not revoked for it"


def test_who_asks_again_past_its_talk_time_waits_behind_the_others():
    site = Site(FloorRules(preempt=False))
    site.say(site.a, m.REQUEST)
    site.say(site.b, m.REQUEST)
    site.run(30_020, site.a)
    site.say(site.a, m.REQUEST)
    assert site.floor.burst.member is site.b and [w.member for w in site.floor.queue] == [site.a]


def test_idle_and_taken_are_said_again_for_who_has_lost_them():
    site = Site()
    site.say(site.a, m.REQUEST)
    site.run(3900, site.a)
    assert site.heard().count(("b", "Taken")) == 1 + floor.C7
    site.say(site.a, m.RELEASE)
    site.run(10_000)
    assert site.heard().count(("b", "Idle")) == 1 + floor.C7


def test_late_entry_tells_who_speaks_and_the_holder_that_it_still_holds():
    site = Site()
    site.say(site.a, m.REQUEST)
    site.sent.clear()
    site.floor.sync(site.b, 100)
    site.floor.sync(site.a, 100)
    assert site.heard() == [("b", "Taken"), ("a", "Granted")]


def test_alone_in_the_group():
    site = Site()
    site.b.present = site.c.present = False
    site.say(site.a, m.REQUEST)
    assert site.sent[0][1].cause == m.DENY_ALONE
    site.say(site.a, m.REQUEST, indicator=m.EMERGENCY)
    assert site.floor.burst is not None, "an emergency is recorded, and heard by who comes"


def test_voice_under_way_when_the_burst_ended_still_passes():
    site = Site()
    site.say(site.a, m.REQUEST)
    site.floor.voice(site.a, 101, 10)
    site.say(site.a, m.RELEASE)
    assert site.floor.voice(site.a, 101, 100) and not site.floor.voice(site.a, 101, 5000)


def test_who_leaves_loses_floor_and_place():
    site = Site(FloorRules(preempt=False))
    site.say(site.a, m.REQUEST)
    site.say(site.b, m.REQUEST)
    site.say(site.c, m.REQUEST)
    site.floor.leave(site.b, 10)
    site.floor.leave(site.a, 20)
    assert site.floor.burst.member is site.c and not site.floor.queue


@pytest.mark.parametrize("what", ["spoofed ssrc", "wrong direction", "receive only"])
def test_what_a_participant_may_not_say(what):
    site = Site(rights=frozenset() if what == "receive only" else ALL)
    if what == "receive only":
        site.say(site.a, m.REQUEST)
        assert site.sent[0][1].cause == m.DENY_RECEIVE_ONLY
        return
    with pytest.raises(m.FloorError):
        if what == "spoofed ssrc":
            site.say(site.a, m.REQUEST, ssrc=site.b.ssrc)
        else:
            site.say(site.a, m.IDLE)
    assert site.floor.burst is None


def test_older_messages_are_dropped():
    site = Site()
    site.say(site.a, m.REQUEST)
    writer = m.Writer(bytearray(64))
    writer.begin(m.RELEASE, site.a.ssrc)
    site.floor.receive(site.a, bytes(writer.buf[: writer.end()]), site.index, 10)
    assert site.floor.burst is not None, "said before the Request, and late"
