"""Receive arbiter and talk groups: which media is played, until when, and under which key."""

from patrolink_protocol import g711
from patrolink_protocol import mcptt as m
from ptt_harness import HUB, LOUD, SHARD, group_key, group_message, make_joined, make_talking, send_burst, wrap


def test_received_burst_is_played_and_reported():
    harness = make_joined(replay_s=2)
    harness.send_taken(77)
    harness.run(20)
    send_burst(harness, 77, 20)
    harness.send_idle()
    harness.run(600)
    expected = bytearray(160)
    g711.decode(LOUD, 0, 80, expected, 0)
    assert harness.played.count(bytes(expected)) == 40
    values, _ = harness.reports[0]
    assert (values["role"], values["packets"], values["lost"], values["ssrc"]) == (1, 20, 0, 77)
    assert values["duration_ms"] == 400
    count = len(harness.played)
    harness.press(b"replay")
    harness.run(600)
    assert harness.played[count:].count(bytes(expected)) == 40


def test_packets_shortly_after_floor_idle_are_played():
    harness = make_joined()
    harness.send_taken(77)
    harness.run(20)
    send_burst(harness, 77, 10)
    harness.send_idle()
    harness.run(10)
    send_burst(harness, 77, 2, first=10)
    harness.run(600)
    harness.send_media(77, 12, LOUD)  # too late
    harness.run(600)
    values, _ = harness.reports[0]
    assert values["packets"] == 12 and values["duration_ms"] == 240 and len(harness.reports) == 1


def test_nothing_is_played_while_the_microphone_is_open():
    harness = make_talking()
    harness.sounds._tone = ()
    count = len(harness.played)
    harness.send_taken(77, group=1)  # ends the burst of this device
    harness.send_media(77, 0, LOUD)
    harness.run(10)
    assert not harness.microphone.is_open
    harness = make_talking()
    harness.client.on_group_message(group_message(2), harness.now_ms)
    harness.run(200)
    count = len(harness.played)
    harness.send_taken(88, group=2)
    harness.run(20)
    for i in range(10):
        harness.send_media(88, i, LOUD, group=2)
        harness.run(20)
    assert harness.microphone.is_open and len(harness.played) == count and harness.client.receive_arbiter.group is None
    harness.press(b"ptt-up")
    for i in range(10, 40):
        harness.send_media(88, i, LOUD, group=2)
        harness.run(20)
    assert len(harness.played) > count  # late entry into the burst of the other group


def test_highest_rank_is_played_and_an_emergency_before_all():
    harness = make_joined()
    for group in (2, 3):
        harness.client.on_group_message(group_message(group), harness.now_ms)
    harness.run(50)
    harness.send_taken(70, group=2)
    harness.run(10)
    assert harness.client.receive_arbiter.group.number == 2
    harness.send_taken(60, group=1)
    harness.run(10)
    assert harness.client.receive_arbiter.group.number == 2
    harness.send_taken(80, group=3)
    harness.run(10)
    assert harness.client.receive_arbiter.group.number == 3
    harness.send_taken(61, group=1, indicator=m.EMERGENCY)
    harness.run(10)
    assert harness.client.receive_arbiter.group.number == 1
    harness.send_idle(group=1)
    harness.run(500)
    assert harness.client.receive_arbiter.group.number == 3


def test_media_before_floor_taken_is_played_unless_it_is_of_an_old_burst():
    harness = make_joined()
    old = harness.send_media(SHARD + 5, 0, LOUD)
    harness.run(150)
    assert harness.played  # before a Floor Taken
    harness.run(2500)
    assert harness.client.receive_arbiter.group is None  # no Floor Taken was received
    count = len(harness.played)
    harness.sockets[HUB[2]].inbox.append(old)
    harness.run(300)
    assert len(harness.played) == count
    harness.send_media(SHARD + 4, 0, LOUD)
    harness.run(300)
    assert len(harness.played) == count
    harness.send_media(SHARD + 6, 0, LOUD)
    harness.run(300)
    assert len(harness.played) > count


def test_burst_ends_without_media_or_floor_idle():
    harness = make_joined()
    harness.send_taken(77)
    harness.run(20)
    send_burst(harness, 77, 10)
    harness.run(3500)
    assert harness.client.receive_arbiter.group is not None
    harness.run(1500)
    assert harness.client.receive_arbiter.group is None and harness.reports


def test_previous_key_is_accepted_for_10_s():
    harness = make_joined()
    harness.send_taken(77)
    harness.run(20)
    group = harness.client.groups[0]
    harness.client.on_group_message(group_message(key=2, wrapped=wrap(group_key(9))), harness.now_ms)
    assert group.key == 2
    send_burst(harness, 77, 5)
    assert harness.jitter_buffer.packets == 5
    harness.run(10100)
    harness.send_taken(78)
    harness.run(20)
    harness.send_media(78, 0, LOUD)
    harness.run(20)
    assert harness.client.rejected and not harness.jitter_buffer.packets
    harness.client.on_group_message(group_message(key=3, wrapped=bytes(40)), harness.now_ms)
    assert group.key == 2 and "rejected" in harness.log[-1]
