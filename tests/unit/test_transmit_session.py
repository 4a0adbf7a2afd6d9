"""A burst of the wearer's: from the press to its end, by the hub's leave and under its SSRC."""

from allocation import allocated
from compat import aes
from memory_storage import MemoryStore
from patrolink_protocol import mcptt as m
from patrolink_protocol import srtp
from ptt_harness import SHARD, burst, group_key, joined, outcomes, talking, terms


def test_a_press_is_answered_and_what_was_said_before_the_grant_goes_out():
    world = joined()
    world.mic.value = lambda i: 0 if i < 480 else (2000 if i % 8 < 4 else -2000)  # 60 ms of silence first
    world.press()
    assert world.mic.is_open
    world.run(200)
    assert world.types() == [m.REQUEST] and world.said[0][1].priority == 5 and world.voice == []
    world.grant()
    world.run(10)
    # 210 ms were heard; 20 ms of the leading silence are kept, and whole packets of 20 ms go out.
    assert len(world.voice) == (210 - 60 + 40) // 20
    first = world.voice[0]
    assert first[1] == 0x88 and [p[1] for p in world.voice[1:]] == [8] * (len(world.voice) - 1)
    assert [p[2] << 8 | p[3] for p in world.voice] == list(range(16384, 16384 + len(world.voice)))
    assert first[12 : 12 + 160] == b"\xd5" * 160
    assert world.voice[2][12:16] == world.voice[3][12:16] != b"\xd5" * 4
    world.run(90)
    count = len(world.voice)
    assert count == 14
    world.press(b"ptt-up")
    world.run(190)
    assert world.types() == [m.REQUEST] and world.mic.is_open
    world.run(20)
    assert world.types() == [m.REQUEST, m.RELEASE] and not world.mic.is_open
    assert len(world.voice) == count + 10
    values, started_ms = world.reports[0]
    assert values["outcome"] == 0 and values["packets"] == 24 and values["duration_ms"] == 480
    assert values["access_ms"] == 210 and values["ssrc"] == SHARD + 1
    assert started_ms == 50 + 60 - 40


def test_the_granted_ssrc_is_the_only_one():
    world = talking()
    assert [p[8:12] for p in world.voice] == [(SHARD + 1).to_bytes(4, "big")] * len(world.voice)
    world.grant(SHARD + 2)  # the hub has begun another burst for us
    before = len(world.voice)
    world.run(40)
    after = world.voice[before:]
    assert [p[8:12] for p in after if p[8:12] != (SHARD + 1).to_bytes(4, "big")] and after[-1][1] == 8
    assert sum([p[1] >> 7 for p in world.voice]) == 2  # a marker each
    # Nothing is said twice.
    assert len(world.voice) * 20 <= world.ms


def test_what_becomes_of_a_press():
    for kind, fields, outcome in (
        (m.DENY, (("word", m.CAUSE, m.DENY_TAKEN),), 2),
        (m.QUEUE_POSITION_INFO, (("pair", m.QUEUE_INFO, 1, 0),), None),
    ):
        world = joined()
        world.press()
        world.run(50)
        world.say(kind, *fields)
        world.run(50)
        assert outcomes(world) == ([] if outcome is None else [outcome])
        assert not world.mic.is_open and world.voice == []
    world.taken(77)
    world.run(10)
    burst(world, 77, 10)
    assert world.jitter_buffer.packets == 10  # who waits in the queue hears the others
    world.grant()  # the queue has come to us, and the key is still down
    world.run(50)
    assert world.mic.is_open and world.voice
    world.press(b"ptt-up")
    world.run(300)
    assert outcomes(world) == [1] and world.reports[-1][0]["access_ms"] > 200
    world = joined()  # nobody answers
    world.press()
    world.run(5000)
    assert outcomes(world) == [3] and not world.mic.is_open
    world = joined()  # let go before the answer
    world.press()
    world.run(50)
    world.press(b"ptt-up")
    assert outcomes(world) == [4] and not world.mic.is_open
    world.grant()
    world.run(100)
    assert world.voice == [] and not world.mic.is_open
    world = talking()
    world.say(m.REVOKE, ("word", m.CAUSE, m.REVOKE_PREEMPTED))
    world.run(10)
    assert outcomes(world) == [5] and not world.mic.is_open
    said = len(world.voice)
    world.run(500)
    assert len(world.voice) == said


def test_a_microphone_that_cannot_be_opened_asks_for_nothing():
    world = joined()
    world.mic.broken = True
    world.press()
    world.run(100)
    assert world.types() == [] and outcomes(world) == [3] and world.client.transmit_session.microphone_fault
    world.mic.broken = False
    world.press()
    assert not world.client.transmit_session.microphone_fault


def test_talk_time_ends_with_a_warning_though_the_key_stays_down():
    world = joined()
    world.press()
    world.run(50)
    world.grant(seconds=8)
    world.run(2900)
    quiet = len(world.heard)
    world.run(300)
    assert len(world.heard) > quiet  # five seconds before the end
    world.run(5500)
    assert not world.mic.is_open and m.RELEASE in world.types() and outcomes(world) == [0]


def test_a_main_loop_that_stood_still_closes_the_microphone():
    world = talking()
    world.ms += 1500
    said = len(world.voice)
    world.serve()
    assert not world.mic.is_open and len(world.voice) == said and world.types()[-1] == m.RELEASE
    assert "closed" in world.log[-1]


def test_a_microphone_without_the_floor_is_closed_whatever_went_wrong():
    world = talking()
    world.client.groups[0].floor.state = 0  # and nobody told
    world.serve()
    assert not world.mic.is_open


def test_a_new_press_within_the_tail_goes_on():
    world = talking()
    world.press(b"ptt-up")
    world.run(100)
    world.press()
    world.run(500)
    assert world.mic.is_open and m.RELEASE not in world.types()


def test_an_ssrc_is_never_spoken_under_twice_though_the_power_goes():
    store = MemoryStore()
    world = talking(store=store)
    again = joined(store=store, index=50)
    again.counter = 1000
    again.press()
    again.run(50)
    again.grant(SHARD + 1)  # genuine, and from before
    again.run(300)
    assert again.voice == [] and not again.mic.is_open
    again.run(3000)
    again.press(b"ptt-up")
    again.press()
    again.run(50)
    again.grant(SHARD + 2)
    again.run(50)
    assert again.voice and world.voice
    other = joined(store=store, index=90)
    other.counter = 2000
    other.press()
    other.run(50)
    other.grant((4 << 27) + 1)  # another shard counts for itself
    other.run(50)
    assert other.voice


def test_an_emergency_takes_the_place_of_an_ordinary_press():
    world = talking()
    world.press(b"emergency")
    world.run(10)
    assert world.types()[-2:] == [m.RELEASE, m.REQUEST]
    assert world.said[-1][1].indicator & m.EMERGENCY and world.mic.is_open
    world.press()  # does not take it back
    world.run(10)
    assert world.mic.is_open and world.types()[-1] == m.REQUEST
    world = joined()
    world.press()
    world.run(20)
    world.say(m.QUEUE_POSITION_INFO, ("pair", m.QUEUE_INFO, 3, 0))
    world.run(20)
    world.press(b"emergency")
    world.run(10)
    assert world.said[-1][1].indicator & m.EMERGENCY and world.mic.is_open


def test_ambient_listening_ends_by_itself_and_for_the_wearer():
    world = joined()
    assert world.client.transmit_session.start_ambient(world.client.groups[0], 5, world.ms) == "not a private group"
    world.client.on_group_message(terms(2, kind=1), world.ms)
    world.run(50)
    private = world.client.groups[1]
    assert world.client.transmit_session.start_ambient(private, 5, world.ms) is None and world.mic.is_open
    world.run(50)
    world.grant(group=2)
    world.rtp = srtp.SrtpTransform(aes.encrypter, group_key(2)[:16], group_key(2)[16:])
    world.run(4800)
    assert world.voice and world.mic.is_open
    world.run(200)
    assert not world.mic.is_open and world.types()[-1] == m.RELEASE
    assert world.client.transmit_session.start_ambient(private, 5, world.ms) is None
    world.run(50)
    world.press()
    world.run(20)
    assert world.said[-1][1].ssrc == 0x80000001
    assert world.client.transmit_session.start_ambient(private, 5, world.ms) == "the wearer is using push-to-talk"


def test_nothing_is_allocated_for_a_packet_that_is_spoken():
    world = talking(frame_ms=60)
    world.on_wire = lambda port, data: None
    sender, rtp = world.sender, world.client.groups[0].rtp

    def packet():
        sender._head = sender._tail + 480
        assert sender.next_packet()
        sender.packet_view(rtp.protect(sender.packet, sender.n, 0))

    assert allocated(packet) == 0
