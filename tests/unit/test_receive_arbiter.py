"""What the wearer hears: whose voice, of which group, until when, and under which key."""

from patrolink_protocol import g711
from patrolink_protocol import mcptt as m
from ptt_harness import HUB, LOUD, SHARD, burst, group_key, joined, talking, terms, wrap


def test_voice_of_another_is_heard_and_reported():
    world = joined(replay_s=2)
    world.taken(77)
    world.run(20)
    burst(world, 77, 20)
    world.idle()
    world.run(600)
    want = bytearray(160)
    g711.decode(LOUD, 0, 80, want, 0)
    assert world.heard.count(bytes(want)) == 40
    values, _ = world.reports[0]
    assert (values["role"], values["packets"], values["lost"], values["ssrc"]) == (1, 20, 0, 77)
    assert values["duration_ms"] == 400
    count = len(world.heard)
    world.press(b"replay")
    world.run(600)
    assert world.heard[count:].count(bytes(want)) == 40


def test_the_last_packets_may_come_after_idle():
    world = joined()
    world.taken(77)
    world.run(20)
    burst(world, 77, 10)
    world.idle()
    world.run(10)
    burst(world, 77, 2, first=10)
    world.run(600)
    world.speak(77, 12, LOUD)  # much too late
    world.run(600)
    values, _ = world.reports[0]
    assert values["packets"] == 12 and values["duration_ms"] == 240 and len(world.reports) == 1


def test_half_duplex():
    world = talking()
    world.sound._tone = ()
    count = len(world.heard)
    world.taken(77, group=1)  # and that ends our own burst
    world.speak(77, 0, LOUD)
    world.run(10)
    assert not world.mic.is_open
    world = talking()
    world.client.on_group_message(terms(2), world.ms)
    world.run(200)
    count = len(world.heard)
    world.taken(88, group=2)
    world.run(20)
    for i in range(10):
        world.speak(88, i, LOUD, group=2)
        world.run(20)
    assert world.mic.is_open and len(world.heard) == count and world.client.receive_arbiter.group is None
    world.press(b"ptt-up")
    for i in range(10, 40):
        world.speak(88, i, LOUD, group=2)
        world.run(20)
    assert len(world.heard) > count  # late entry into what the other group says


def test_the_foremost_group_is_heard_and_an_emergency_before_all():
    world = joined()
    for group in (2, 3):
        world.client.on_group_message(terms(group), world.ms)
    world.run(50)
    world.taken(70, group=2)
    world.run(10)
    assert world.client.receive_arbiter.group.number == 2
    world.taken(60, group=1)
    world.run(10)
    assert world.client.receive_arbiter.group.number == 2
    world.taken(80, group=3)
    world.run(10)
    assert world.client.receive_arbiter.group.number == 3
    world.taken(61, group=1, indicator=m.EMERGENCY)
    world.run(10)
    assert world.client.receive_arbiter.group.number == 1
    world.idle(group=1)
    world.run(500)
    assert world.client.receive_arbiter.group.number == 3


def test_voice_that_is_here_before_its_taken_is_heard_and_an_old_burst_is_not():
    world = joined()
    old = world.speak(SHARD + 5, 0, LOUD)
    world.run(150)
    assert world.heard  # nobody has said Taken
    world.run(2500)
    assert world.client.receive_arbiter.group is None  # nor did anybody later
    count = len(world.heard)
    world.sockets[HUB[2]].inbox.append(old)
    world.run(300)
    assert len(world.heard) == count
    world.speak(SHARD + 4, 0, LOUD)
    world.run(300)
    assert len(world.heard) == count
    world.speak(SHARD + 6, 0, LOUD)
    world.run(300)
    assert len(world.heard) > count


def test_end_of_voice_without_a_word_from_the_hub():
    world = joined()
    world.taken(77)
    world.run(20)
    burst(world, 77, 10)
    world.run(3500)
    assert world.client.receive_arbiter.group is not None
    world.run(1500)
    assert world.client.receive_arbiter.group is None and world.reports


def test_a_new_key_and_the_one_before():
    world = joined()
    world.taken(77)
    world.run(20)
    group = world.client.groups[0]
    world.client.on_group_message(terms(key=2, wrapped=wrap(group_key(9))), world.ms)
    assert group.key == 2
    burst(world, 77, 5)
    assert world.jitter_buffer.packets == 5
    world.run(10100)
    world.taken(78)
    world.run(20)
    world.speak(78, 0, LOUD)
    world.run(20)
    assert world.client.rejected and not world.jitter_buffer.packets
    world.client.on_group_message(terms(key=3, wrapped=bytes(40)), world.ms)
    assert group.key == 2 and "rejected" in world.log[-1]
