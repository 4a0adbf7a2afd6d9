"""A dispatcher as a floor participant of a group: requests, grants, queue, revocation, loss, and voice."""

import asyncio
import socket

import pytest
from patrolink.emulator.footprint import footprint
from patrolink.hub.dispatch.message_queue import MessageQueue
from patrolink.hub.dispatch.messages import VoiceFrame
from patrolink.hub.dispatch.participation import GroupParticipation
from patrolink.hub.dispatch.voice_receiver import VoiceReceiver
from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.udp import bind_udp
from patrolink.hub.voice.dispatcher_terms import DispatcherTerms
from patrolink.hub.voice.floor import Floor
from patrolink.hub.voice.floor_types import FloorMessage, FloorRules, Member
from patrolink_protocol import mcptt, participant, srtp

from tests.support.hub_parts import FakeClock

GROUP = 1
KEY = GroupKey(1, bytes(range(30)))
RIGHTS = frozenset(("talk", "emergency", "broadcast"))


class Dispatcher:
    """A dispatcher's participation in a group, linked to a floor. It is the participation's link.

    Attributes:
        loses: True while floor messages of the dispatcher are lost.
        packets: SRTP packets that the dispatcher has sent.
    """

    def __init__(self) -> None:
        self.clock, self.queue, self.metrics = FakeClock(0), MessageQueue("duty"), Metrics()
        ssrcs = iter(range(100, 200))
        self.floor = Floor(FloorRules(preempt=False), 7, lambda is_emergency: next(ssrcs))
        self.other = Member("vest-1", 0x80000001, 10, frozenset(("talk",)), b"sip:vest-1@site", present=True)
        self.member = Member("duty", 0x80000002, 200, RIGHTS, b"sip:duty@site", present=True)
        for member in (self.other, self.member):
            self.floor.join(member)
        self.packets: list[bytes] = []
        self.loses, self.uplink, self.downlink = False, 0, 0
        self.receiver = VoiceReceiver(bind_udp("127.0.0.1", 0), self.clock, self.metrics)
        terms = DispatcherTerms(self.member.ssrc, 7, self.member.mcptt_id, bytes(32), KEY)
        self.participation = GroupParticipation(
            GROUP, terms, self, self.receiver, print, self.queue, self.clock, self.metrics
        )
        self.receiver.add(GROUP, KEY, self.participation)

    def send_floor(self, data: bytes) -> None:
        self.uplink += 1
        if not self.loses:
            self.floor.receive(self.member, data, self.uplink, self.clock.now_ms)
            self.deliver()

    def send_voice(self, packet: memoryview) -> None:
        self.packets.append(bytes(packet))

    def deliver(self) -> None:
        """Deliver the floor's messages to the dispatcher."""
        for effect in self.floor.take_effects():
            if isinstance(effect, FloorMessage) and effect.member is self.member:
                self.downlink += 1
                self.participation.receive(bytearray(effect.data), len(effect.data), self.downlink)

    def other_requests(self) -> None:
        """Grant the floor to the other member."""
        writer = mcptt.Writer(bytearray(64))
        writer.begin(mcptt.REQUEST, self.other.ssrc)
        writer.pair(mcptt.PRIORITY, 0)
        data = bytes(writer.buf[: writer.end()])
        self.floor.receive(self.other, data, self.other.newest_index + 1, self.clock.now_ms)
        self.deliver()

    def types(self) -> list[str]:
        """Return the types of the messages that the dispatcher has got."""
        return ["voice" if isinstance(message, VoiceFrame) else message["type"] for message in self.queue._messages]

    def hear(self, ssrc: int, index: int, key: GroupKey = KEY, alaw: bytes = b"voice") -> None:
        """Receive a voice packet of the group."""
        buf = bytearray(12 + len(alaw) + srtp.TAG_BYTES)
        header = bytes((0x80, 8)) + (index & 0xFFFF).to_bytes(2, "big") + (160 * index).to_bytes(4, "big")
        buf[: 12 + len(alaw)] = header + ssrc.to_bytes(4, "big") + alaw
        n = key.srtp_context().protect(buf, 12 + len(alaw), index >> 16)
        self.receiver._on_datagram(buf, n, ("127.0.0.1", 1), 0)


@pytest.fixture
def duty():
    """Return a Dispatcher. Its timers do not run by themselves: a test calls `_on_timer`."""
    loop = asyncio.new_event_loop()
    asyncio._set_running_loop(loop)
    dispatcher = Dispatcher()
    yield dispatcher
    dispatcher.participation.close()
    dispatcher.receiver.close()
    asyncio._set_running_loop(None)
    loop.close()


def test_dispatcher_is_granted_the_floor_and_releases_it(duty):
    duty.participation.request(200, mcptt.NORMAL)
    assert duty.floor.burst.member is duty.member and duty.floor.burst.acked
    duty.participation.release()
    assert duty.floor.burst is None and duty.types() == ["granted", "released"]
    assert duty.queue._messages[0] == {"type": "granted", "group": GROUP, "duration_ms": 30_000}
    duty.participation.release()
    assert duty.types() == ["granted", "released"], "a second release has no effect"


def test_queued_dispatcher_keeps_its_position_and_may_raise_an_emergency(duty):
    duty.other_requests()
    duty.participation.request(0, mcptt.NORMAL)
    duty.participation.request(0, mcptt.NORMAL)
    assert duty.types() == ["queued", "queued"] and len(duty.floor.queue) == 1
    duty.participation.request(0, mcptt.EMERGENCY)
    assert duty.types() == ["queued", "queued", "granted"]
    assert duty.floor.burst.indicator & mcptt.EMERGENCY


def test_dispatcher_cancels_a_queued_request(duty):
    duty.other_requests()
    duty.participation.request(0, mcptt.NORMAL)
    duty.participation.release()
    assert duty.types() == ["queued", "released"] and not duty.floor.queue


def test_revoked_dispatcher_stops_and_answers_once(duty):
    duty.participation.request(0, mcptt.NORMAL)
    for now_ms in range(0, 40_000, 100):
        duty.clock.now_ms = now_ms
        duty.floor.voice(duty.member, 100, now_ms)
        duty.floor.poll(now_ms)
        duty.deliver()
    assert duty.types() == ["granted", "revoked"] and duty.floor.burst is None
    assert duty.queue._messages[1] == {"type": "revoked", "group": GROUP, "cause": 2, "text": "the talk time is over"}


def test_lost_request_is_repeated_and_one_without_an_answer_is_denied(duty):
    duty.loses = True
    duty.participation.request(0, mcptt.NORMAL)
    duty.participation.request(0, mcptt.NORMAL)
    assert duty.types() == [], "the request is pending"
    duty.loses = False
    duty.clock.now_ms = participant.T101_MS
    duty.participation._on_timer()
    assert duty.types() == ["granted"]
    duty.participation.release()
    duty.loses = True
    duty.participation.request(0, mcptt.NORMAL)
    for _ in range(10):
        duty.clock.now_ms += 2000
        duty.participation._on_timer()
    assert duty.types() == ["granted", "released", "denied"]
    assert duty.queue._messages[2]["text"] == "the floor control server does not answer"


def test_emergency_replaces_a_pending_request(duty):
    duty.loses = True
    duty.participation.request(0, mcptt.NORMAL)
    duty.loses = False
    duty.participation.request(0, mcptt.EMERGENCY)
    assert duty.types() == ["granted"] and duty.floor.burst.indicator & mcptt.EMERGENCY


def test_voice_is_protected_and_its_index_continues_past_a_roll_over(duty):
    assert not duty.participation.send_audio(bytes(160)), "no floor"
    duty.participation.request(0, mcptt.NORMAL)
    duty.participation._sender._index = 65_535
    duty.participation._sender._began_ms = -10_000_000
    assert duty.participation.send_audio(b"\1" * 160) and duty.participation.send_audio(b"\2" * 160)
    stream = srtp.SrtpStream()
    for packet, sample in zip(duty.packets, (b"\1", b"\2"), strict=True):
        buf = bytearray(packet)
        n = KEY.srtp_context().open(buf, len(buf), stream)
        assert bytes(buf[12:n]) == sample * 160
    assert stream.highest == 65_536
    for alaw in (b"", bytes(481)):
        assert not duty.participation.send_audio(alaw)


@pytest.mark.parametrize(("size", "limit"), [(1, 101), (160, 51)])
def test_voice_faster_than_speech_is_refused(duty, size, limit):
    duty.participation.request(0, mcptt.NORMAL)
    sent = sum(duty.participation.send_audio(bytes(size)) for _ in range(1000))
    assert sent == limit and duty.metrics.refused["dispatcher flood"] == 1000 - limit
    duty.clock.now_ms += 1000
    assert duty.participation.send_audio(bytes(size))


def test_voice_is_heard_once_even_if_it_arrives_before_floor_taken(duty):
    duty.hear(100, 0)
    assert duty.types() == []
    duty.other_requests()
    assert duty.types() == ["voice"]
    for _ in range(2):
        duty.hear(100, 1)
    duty.hear(100, 2, GroupKey(2, bytes(30)))
    frames = list(duty.queue._messages)
    assert [(frame.talker, frame.first, frame.timestamp, frame.alaw) for frame in frames] == [
        ("vest-1", True, 0, b"voice"),
        ("vest-1", False, 160, b"voice"),
    ]
    assert duty.metrics.refused["dispatcher voice"] == 2, "a repeated packet, and one under another key"


def test_state_of_two_bursts_of_a_group_is_kept(duty):
    """The packets of the burst before are late, and still differ from forged ones. Older ones are forgotten."""
    for ssrc in range(100, 2100):
        duty.receiver.burst_began(GROUP, ssrc)
        duty.hear(ssrc, 0)
    assert not duty.metrics.refused["dispatcher voice"]
    duty.hear(2098, 0)
    duty.hear(2098, 1)
    assert duty.metrics.refused["dispatcher voice"] == 1, "a repeated packet of the burst before"
    assert footprint(duty.receiver, "patrolink.hub.infra.") < 64 << 10
    duty.receiver.remove(GROUP, duty.participation)
    for index in range(2):
        duty.hear(2099, index)
    assert duty.metrics.refused["dispatcher voice"] == 1, "nobody listens"


def test_new_key_of_a_group_replaces_the_older_one(duty):
    keys = [GroupKey(number, bytes([number] * 30)) for number in (2, 3)]
    duty.other_requests()
    for key in keys:
        duty.receiver.group_key_changed(GROUP, key)
    for index, key in enumerate((KEY, *keys)):
        duty.hear(100, index, key)
    assert duty.types() == ["voice", "voice"], "the current key and the previous one are valid"


def test_receiver_drops_datagrams_that_are_no_voice(duty):
    duty.receiver._on_datagram(bytearray(12), 5, ("127.0.0.1", 1), 0)
    duty.receiver._on_datagram(bytearray((0x80, 201)) + bytearray(20), 22, ("127.0.0.1", 1), 0)
    assert duty.metrics.refused["dispatcher voice"] == 2
    assert duty.receiver.address[0] == "127.0.0.1" and duty.receiver._sock.family == socket.AF_INET
