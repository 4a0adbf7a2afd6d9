"""The radio as the wearer and the hub see it: presses, grants, who is heard, and what must never be."""

from agent.ptt import keys, voice
from allocated import allocated
from compat import aes
from memory import MemoryStore
from patrolink_protocol import mcptt as m
from patrolink_protocol import srtp
from ptt_world import HUB, KEY, SHARD, group_key, joined, terms, wrap
from seeded import seeded

LOUD = bytes([0x2A, 0xAA] * 80)  # a unit and a half above any silence


def talking(**more):
    """A world where the device has the floor, 100 ms after the key went down."""
    world = joined(**more)
    world.press()
    world.run(100)
    world.grant()
    world.run(20)
    assert world.talker.on_air
    return world


def outcomes(world):
    return [values["outcome"] for values, _ in world.reports if values["role"] == 0]


def test_a_wrapped_key_comes_out_and_a_damaged_one_does_not():
    decrypt = aes.decrypter(keys.wrapping_key(KEY, 0))
    wrapped = wrap(group_key(7))
    assert keys.unwrap(decrypt, wrapped) == (group_key(7)[:16], group_key(7)[16:])
    bad = [wrapped[:-1], wrapped + b"\0", b"", wrap(group_key(7), epoch=1), wrap(group_key(7), bytes(32))]
    for i in range(8 * len(wrapped)):
        flipped = bytearray(wrapped)
        flipped[i >> 3] ^= 1 << (i & 7)
        bad.append(bytes(flipped))
    for data in bad:
        try:
            keys.unwrap(decrypt, data)
        except keys.KeyRefused:
            continue
        raise AssertionError("a damaged key was taken")


def test_key_wrap_is_that_of_rfc_3394_4_1():
    # Its data are shorter than a group key; the rounds are the same.
    decrypt = aes.decrypter(bytes(range(16)))
    wrapped = b"\x1f\xa6\x8b\x0a\x81\x12\xb4\x47\xae\xf3\x4b\xd8\xfb\x5a\x7b\x82\x9d\x3e\x86\x23\x71\xd2\xcf\xe5"
    block = bytearray(wrapped[:8]) + bytearray(8)
    r = bytearray(wrapped[8:])
    assert keys.unwind(decrypt, block, r) is r
    assert bytes(block[:8]) == b"\xa6" * 8 and r == bytes([0x11 * i for i in range(16)])


def test_the_way_to_the_hub_is_kept_open_and_found_again():
    world = joined()
    line = world.radio.lines[0]
    assert world.reports_rr == 2 and line.up(world.ms)
    world.run(14000)
    assert world.reports_rr == 2
    world.run(1500)
    assert world.reports_rr == 4 and line.up(world.ms) and world.opened == 2
    world.deaf = True
    world.run(50000)
    assert not line.up(world.ms) and world.log[-1] == "ptt: hub hub does not answer"
    assert world.opened > 2  # from another address, perhaps
    world.deaf = False
    world.run(16000)
    assert line.up(world.ms)


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
    assert world.listener.packets == 10  # who waits in the queue hears the others
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
    assert world.types() == [] and outcomes(world) == [3] and world.radio.speaking.fault
    world.mic.broken = False
    world.press()
    assert not world.radio.speaking.fault


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
    world.radio.groups[0].floor.state = 0  # and nobody told
    world.serve()
    assert not world.mic.is_open


def test_each_hub_counts_for_itself():
    world = joined(index=100)
    world.radio.take_group(terms(2, floor_port=6000, media_port=6002), world.ms)
    world.run(50)
    assert len(world.radio.lines) == 2
    world.index = 3
    world.give(bytes((0x80, 201, 0, 1, 0, 0, 0, 102)), 6000)
    world.run(10)
    assert world.radio.lines[1].up(world.ms) and not world.radio.refused
    world.index = 3
    world.give(bytes((0x80, 201, 0, 1, 0, 0, 0, 102)), 6000)
    world.run(10)
    assert world.radio.refused == 1


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


def test_forged_replayed_and_truncated_control_does_nothing():
    world = joined()
    world.press()
    world.run(50)
    data = world.grant()
    inbox = world.sockets[HUB[1]].inbox
    inbox.clear()
    for i in range(len(data)):
        bad = bytearray(data)
        bad[i] ^= 1
        inbox.append(bytes(bad))
        inbox.append(data[:i])
        world.serve()
    assert not world.talker.on_air and world.radio.refused >= 2 * len(data) - 14
    inbox.append(data)
    world.serve()
    assert world.talker.on_air
    refused = world.radio.refused
    inbox.append(data)
    world.serve()
    assert world.radio.refused == refused + 1


def burst(world, ssrc, packets, group=1, first=0, payload=LOUD):
    for i in range(packets):
        world.speak(ssrc, first + i, payload, group=group)
        world.run(20)


def test_voice_of_another_is_heard_and_reported():
    world = joined(replay_s=2)
    world.taken(77)
    world.run(20)
    burst(world, 77, 20)
    world.idle()
    world.run(600)
    want = bytearray(160)
    voice.decode(LOUD, 0, 80, want, 0)
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
    world.radio.take_group(terms(2), world.ms)
    world.run(200)
    count = len(world.heard)
    world.taken(88, group=2)
    world.run(20)
    for i in range(10):
        world.speak(88, i, LOUD, group=2)
        world.run(20)
    assert world.mic.is_open and len(world.heard) == count and world.radio.hearing.group is None
    world.press(b"ptt-up")
    for i in range(10, 40):
        world.speak(88, i, LOUD, group=2)
        world.run(20)
    assert len(world.heard) > count  # late entry into what the other group says


def test_the_foremost_group_is_heard_and_an_emergency_before_all():
    world = joined()
    for group in (2, 3):
        world.radio.take_group(terms(group), world.ms)
    world.run(50)
    world.taken(70, group=2)
    world.run(10)
    assert world.radio.hearing.group.number == 2
    world.taken(60, group=1)
    world.run(10)
    assert world.radio.hearing.group.number == 2
    world.taken(80, group=3)
    world.run(10)
    assert world.radio.hearing.group.number == 3
    world.taken(61, group=1, indicator=m.EMERGENCY)
    world.run(10)
    assert world.radio.hearing.group.number == 1
    world.idle(group=1)
    world.run(500)
    assert world.radio.hearing.group.number == 3


def test_voice_that_is_here_before_its_taken_is_heard_and_an_old_burst_is_not():
    world = joined()
    old = world.speak(SHARD + 5, 0, LOUD)
    world.run(150)
    assert world.heard  # nobody has said Taken
    world.run(2500)
    assert world.radio.hearing.group is None  # nor did anybody later
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
    assert world.radio.hearing.group is not None
    world.run(1500)
    assert world.radio.hearing.group is None and world.reports


def test_a_new_key_and_the_one_before():
    world = joined()
    world.taken(77)
    world.run(20)
    group = world.radio.groups[0]
    world.radio.take_group(terms(key=2, wrapped=wrap(group_key(9))), world.ms)
    assert group.key == 2
    burst(world, 77, 5)
    assert world.listener.packets == 5
    world.run(10100)
    world.taken(78)
    world.run(20)
    world.speak(78, 0, LOUD)
    world.run(20)
    assert world.radio.refused and not world.listener.packets
    world.radio.take_group(terms(key=3, wrapped=bytes(40)), world.ms)
    assert group.key == 2 and "refused" in world.log[-1]


def test_terms_that_end_the_membership():
    world = talking()
    world.radio.take_group(terms(rights=0), world.ms)
    assert not world.mic.is_open and world.radio.groups == [] and world.radio.lines == [] and outcomes(world) == [5]
    assert all([s.closed for s in world.sockets.values()])
    world.run(100)
    world.press()
    assert not world.mic.is_open
    world = joined(groups=1)
    world.radio.take_group(terms(2), world.ms)
    assert len(world.radio.groups) == 1 and "one more" in world.log[-1]


def test_keys_of_the_wearer():
    world = joined()
    world.radio.take_group(terms(2, kind=1), world.ms)
    world.radio.take_group(terms(3, rights=1), world.ms)
    world.run(50)
    assert world.radio.selected.number == 1
    world.press(b"call")
    world.run(10)
    assert world.said[-1][1].ssrc == 0x80000002
    world.press(b"ptt-up")
    world.press(b"group 3")
    world.press()
    assert not world.mic.is_open  # listening is all that is allowed there
    world.press(b"group 9")
    world.press(b"group x")
    world.press(b"group 2")
    assert world.radio.selected.number == 2
    world.press(b"replay")
    assert not world.radio.button(b"lamp", world.ms)
    world.press(b"ptt-up")


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
    assert world.radio.speaking.listen_in(world.radio.groups[0], 5, world.ms) == "not a private group"
    world.radio.take_group(terms(2, kind=1), world.ms)
    world.run(50)
    private = world.radio.groups[1]
    assert world.radio.speaking.listen_in(private, 5, world.ms) is None and world.mic.is_open
    world.run(50)
    world.grant(group=2)
    world.rtp = srtp.Rtp(aes.encrypter, group_key(2)[:16], group_key(2)[16:])
    world.run(4800)
    assert world.voice and world.mic.is_open
    world.run(200)
    assert not world.mic.is_open and world.types()[-1] == m.RELEASE
    assert world.radio.speaking.listen_in(private, 5, world.ms) is None
    world.run(50)
    world.press()
    world.run(20)
    assert world.said[-1][1].ssrc == 0x80000001
    assert world.radio.speaking.listen_in(private, 5, world.ms) == "the wearer talks"


def test_nothing_is_allocated_for_a_packet_that_is_spoken():
    world = talking(frame_ms=60)
    world.on_wire = lambda port, data: None
    talker, rtp = world.talker, world.radio.groups[0].rtp

    def packet():
        talker._head = talker._tail + 480
        assert talker.next()
        talker.view(rtp.protect(talker.packet, talker.n, 0))

    assert allocated(packet) == 0


def test_whatever_the_hub_says_the_microphone_is_only_open_by_its_leave():
    for seed in range(6):
        below = seeded(seed + 22179)
        world = joined()
        world.radio.take_group(terms(2, kind=1), world.ms)
        ssrc = SHARD
        for _ in range(300):
            what = below(14)
            group = 1 + below(2)
            if what < 3:
                ssrc += 1
                world.grant(ssrc, 1 + below(9), group)
            elif what == 3:
                world.say(m.DENY, ("word", m.CAUSE, 1), group=group)
            elif what == 4:
                world.say(m.REVOKE, ("word", m.CAUSE, 1 + below(4)), group=group)
            elif what == 5:
                world.say(m.QUEUE_POSITION_INFO, ("pair", m.QUEUE_INFO, (1, 254)[below(2)], 0), group=group)
            elif what == 6:
                world.taken(60 + below(3), group)
            elif what == 7:
                world.idle(group)
            elif what == 8:
                world.say(m.ACK, ("word", m.SOURCE, m.CONTROLLING), ("pair", m.MESSAGE_TYPE, m.RELEASE), group=group)
            else:
                world.press((b"ptt", b"ptt-up", b"call", b"emergency", b"group 2")[what - 9])
            world.rtp = srtp.Rtp(aes.encrypter, group_key(group)[:16], group_key(group)[16:])
            world.on_wire = lambda port, data: None
            world.run(10 * (1 + below(30)))
        world.press(b"ptt-up")
        world.run(40000)
        assert not world.mic.is_open, seed
        assert world.radio.speaking.press is None, seed
