"""The radio as the hub sees it: keys, lines, memberships, hostile control, and what must never be."""

from agent.ptt import keys
from compat import aes
from patrolink_protocol import mcptt as m
from patrolink_protocol import srtp
from patrolink_protocol.key_derivation import derive_key
from ptt_harness import HUB, KEY, SHARD, group_key, joined, outcomes, talking, terms, wrap
from seeded_random import seeded


def test_a_wrapped_key_comes_out_and_a_damaged_one_does_not():
    decrypt = aes.decrypter(derive_key(KEY, b"patrolink-ptt-wrap", 0)[:16])
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
        except keys.KeyUnwrapError:
            continue
        raise AssertionError("a damaged key was taken")


def test_key_wrap_is_that_of_rfc_3394_4_1():
    # Its data are shorter than a group key; the rounds are the same.
    decrypt = aes.decrypter(bytes(range(16)))
    wrapped = b"\x1f\xa6\x8b\x0a\x81\x12\xb4\x47\xae\xf3\x4b\xd8\xfb\x5a\x7b\x82\x9d\x3e\x86\x23\x71\xd2\xcf\xe5"
    block = bytearray(wrapped[:8]) + bytearray(8)
    r = bytearray(wrapped[8:])
    assert keys.unwrap_rounds(decrypt, block, r) is r
    assert bytes(block[:8]) == b"\xa6" * 8 and r == bytes([0x11 * i for i in range(16)])


def test_the_way_to_the_hub_is_kept_open_and_found_again():
    world = joined()
    line = world.client.links[0]
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


def test_each_hub_counts_for_itself():
    world = joined(index=100)
    world.client.on_group_message(terms(2, floor_port=6000, media_port=6002), world.ms)
    world.run(50)
    assert len(world.client.links) == 2
    world.index = 3
    world.give(bytes((0x80, 201, 0, 1, 0, 0, 0, 102)), 6000)
    world.run(10)
    assert world.client.links[1].up(world.ms) and not world.client.rejected
    world.index = 3
    world.give(bytes((0x80, 201, 0, 1, 0, 0, 0, 102)), 6000)
    world.run(10)
    assert world.client.rejected == 1


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
    assert not world.sender.on_air and world.client.rejected >= 2 * len(data) - 14
    inbox.append(data)
    world.serve()
    assert world.sender.on_air
    refused = world.client.rejected
    inbox.append(data)
    world.serve()
    assert world.client.rejected == refused + 1


def test_terms_that_end_the_membership():
    world = talking()
    world.client.on_group_message(terms(rights=0), world.ms)
    assert not world.mic.is_open and world.client.groups == [] and world.client.links == [] and outcomes(world) == [5]
    assert all([s.closed for s in world.sockets.values()])
    world.run(100)
    world.press()
    assert not world.mic.is_open
    world = joined(groups=1)
    world.client.on_group_message(terms(2), world.ms)
    assert len(world.client.groups) == 1 and "limit of 1 groups" in world.log[-1]


def test_keys_of_the_wearer():
    world = joined()
    world.client.on_group_message(terms(2, kind=1), world.ms)
    world.client.on_group_message(terms(3, rights=1), world.ms)
    world.run(50)
    assert world.client.selected.number == 1
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
    assert world.client.selected.number == 2
    world.press(b"replay")
    assert not world.client.on_button(b"lamp", world.ms)
    world.press(b"ptt-up")


def test_whatever_the_hub_says_the_microphone_is_only_open_by_its_leave():
    for seed in range(6):
        below = seeded(seed + 22179)
        world = joined()
        world.client.on_group_message(terms(2, kind=1), world.ms)
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
            world.rtp = srtp.SrtpTransform(aes.encrypter, group_key(group)[:16], group_key(group)[16:])
            world.on_wire = lambda port, data: None
            world.run(10 * (1 + below(30)))
        world.press(b"ptt-up")
        world.run(40000)
        assert not world.mic.is_open, seed
        assert world.client.transmit_session.press is None, seed
