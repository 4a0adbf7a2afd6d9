"""A dispatcher as a floor participant of a group: requests, grants, queue, revocation."""

from patrolink.hub.dispatch.message_queue import MessageQueue
from patrolink.hub.dispatch.participation import GroupParticipation
from patrolink.hub.voice.floor import Floor
from patrolink.hub.voice.floor_types import FloorMessage, FloorRules, Member
from patrolink_protocol import mcptt

from tests.support.hub_parts import FakeClock


class FakeFloorServer:
    """Floor port of one dispatcher. It replies like the floor control server."""

    def __init__(self):
        self.floor = Floor(FloorRules(preempt=False), 7, iter(range(100, 200)).__next__)
        self.other = Member("vest-1", 0x80000001, 10, frozenset(("talk",)), b"sip:vest-1", present=True)
        self.floor.join(self.other)
        self.participation = None

    def receive_floor(self, number, member, data):
        self.floor.receive(member, data, member.newest_index + 1, 0)
        self.deliver(member)

    def deliver(self, member):
        for effect in self.floor.take_effects():
            if isinstance(effect, FloorMessage) and effect.member is member:
                self.participation.receive(effect.data)

    def hold(self, priority=0):
        """Grant the floor to the other member."""
        writer = mcptt.Writer(bytearray(64))
        writer.begin(mcptt.REQUEST, self.other.ssrc)
        writer.pair(mcptt.PRIORITY, priority)
        self.floor.receive(self.other, bytes(writer.buf[: writer.end()]), self.other.newest_index + 1, 0)


def participate():
    server, queue = FakeFloorServer(), MessageQueue("duty")
    rights = frozenset(("talk", "emergency", "broadcast"))
    member = Member("duty", 0x80000002, 200, rights, b"sip:duty", present=True)
    server.floor.join(member)
    server.participation = GroupParticipation(1, member, server, queue, FakeClock(0))
    return server, server.participation, queue


def messages_of(queue):
    """Return the types of the messages in a queue."""
    return [message["type"] for message in queue._messages]


def test_dispatcher_is_granted_the_floor_and_releases_it():
    server, participation, queue = participate()
    participation.request(200, mcptt.NORMAL)
    assert participation.holds(server.floor.burst.ssrc) and server.floor.burst.acked
    participation.release()
    assert server.floor.burst is None and not participation.holds(100)
    assert messages_of(queue) == ["granted", "released"]
    assert queue._messages[0] == {"type": "granted", "group": 1, "duration_ms": 30_000}
    participation.release()
    assert messages_of(queue) == ["granted", "released"], "a second release has no effect"


def test_queued_dispatcher_keeps_its_position_and_may_raise_an_emergency():
    server, participation, queue = participate()
    server.hold()
    participation.request(0, mcptt.NORMAL)
    participation.request(0, mcptt.NORMAL)
    assert messages_of(queue) == ["queued", "queued"] and len(server.floor.queue) == 1
    participation.request(0, mcptt.EMERGENCY)
    assert messages_of(queue) == ["queued", "queued", "granted"]
    assert server.floor.burst.indicator & mcptt.EMERGENCY


def test_dispatcher_cancels_a_queued_request():
    server, participation, queue = participate()
    server.hold()
    participation.request(0, mcptt.NORMAL)
    participation.release()
    assert messages_of(queue) == ["queued", "released"] and not server.floor.queue


def test_revoked_dispatcher_stops_and_answers_once():
    server, participation, queue = participate()
    participation.request(0, mcptt.NORMAL)
    for now_ms in range(0, 40_000, 100):
        server.floor.voice(participation.member, 100, now_ms)
        server.floor.poll(now_ms)
        server.deliver(participation.member)
    assert messages_of(queue) == ["granted", "revoked"] and server.floor.burst is None
    assert queue._messages[1] == {"type": "revoked", "group": 1, "cause": 2, "text": "the talk time is over"}
