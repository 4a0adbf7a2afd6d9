"""PTT client: key wrapping, hub links, memberships, buttons, and hostile floor control."""

from agent.ptt import keys
from patrolink_protocol import aes, srtp
from patrolink_protocol import mcptt as m
from patrolink_protocol.key_derivation import derive_key
from ptt_harness import HUB, KEY, SHARD, group_key, group_message, make_joined, make_talking, outcomes, wrap
from seeded_random import seeded


def test_unwrap_rejects_any_damage():
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
        raise AssertionError("a damaged key was unwrapped")


def test_unwrap_rounds_match_rfc_3394_4_1():
    # The key data of this vector are shorter than a group key; the rounds are the same.
    decrypt = aes.decrypter(bytes(range(16)))
    wrapped = b"\x1f\xa6\x8b\x0a\x81\x12\xb4\x47\xae\xf3\x4b\xd8\xfb\x5a\x7b\x82\x9d\x3e\x86\x23\x71\xd2\xcf\xe5"
    block = bytearray(wrapped[:8]) + bytearray(8)
    r = bytearray(wrapped[8:])
    assert keys.unwrap_rounds(decrypt, block, r) is r
    assert bytes(block[:8]) == b"\xa6" * 8 and r == bytes([0x11 * i for i in range(16)])


def test_hub_link_sends_keepalives_and_is_reopened():
    harness = make_joined()
    link = harness.client.links[0]
    assert harness.receiver_reports == 2 and link.up(harness.now_ms)
    harness.run(14000)
    assert harness.receiver_reports == 2
    harness.run(1500)
    assert harness.receiver_reports == 4 and link.up(harness.now_ms) and harness.sockets_opened == 2
    harness.is_mute = True
    harness.run(50000)
    assert not link.up(harness.now_ms) and harness.log[-1] == "ptt: hub hub does not answer"
    assert harness.sockets_opened > 2  # the address of the board may have changed
    harness.is_mute = False
    harness.run(16000)
    assert link.up(harness.now_ms)


def test_each_hub_has_its_own_replay_list():
    harness = make_joined(index=100)
    harness.client.on_group_message(group_message(2, floor_port=6000, media_port=6002), harness.now_ms)
    harness.run(50)
    assert len(harness.client.links) == 2
    harness.index = 3
    harness.send(bytes((0x80, 201, 0, 1, 0, 0, 0, 102)), 6000)
    harness.run(10)
    assert harness.client.links[1].up(harness.now_ms) and not harness.client.rejected
    harness.index = 3
    harness.send(bytes((0x80, 201, 0, 1, 0, 0, 0, 102)), 6000)
    harness.run(10)
    assert harness.client.rejected == 1


def test_forged_replayed_and_truncated_floor_control_is_rejected():
    harness = make_joined()
    harness.press()
    harness.run(50)
    data = harness.send_granted()
    inbox = harness.sockets[HUB[1]].inbox
    inbox.clear()
    for i in range(len(data)):
        bad = bytearray(data)
        bad[i] ^= 1
        inbox.append(bytes(bad))
        inbox.append(data[:i])
        harness.serve()
    assert not harness.sender.on_air and harness.client.rejected >= 2 * len(data) - 14
    inbox.append(data)
    harness.serve()
    assert harness.sender.on_air
    rejected = harness.client.rejected
    inbox.append(data)
    harness.serve()
    assert harness.client.rejected == rejected + 1


def test_leaving_a_group_ends_its_burst():
    harness = make_talking()
    harness.client.on_group_message(group_message(rights=0), harness.now_ms)
    assert (
        not harness.microphone.is_open
        and harness.client.groups == []
        and harness.client.links == []
        and outcomes(harness) == [5]
    )
    assert all([s.closed for s in harness.sockets.values()])
    harness.run(100)
    harness.press()
    assert not harness.microphone.is_open
    harness = make_joined(groups=1)
    harness.client.on_group_message(group_message(2), harness.now_ms)
    assert len(harness.client.groups) == 1 and "limit of 1 groups" in harness.log[-1]


def test_buttons_select_groups_and_request_the_floor():
    harness = make_joined()
    harness.client.on_group_message(group_message(2, kind=1), harness.now_ms)
    harness.client.on_group_message(group_message(3, rights=1), harness.now_ms)
    harness.run(50)
    assert harness.client.selected.number == 1
    harness.press(b"call")
    harness.run(10)
    assert harness.floor_messages[-1][1].ssrc == 0x80000002
    harness.press(b"ptt-up")
    harness.press(b"group 3")
    harness.press()
    assert not harness.microphone.is_open  # group 3 has the right to listen only
    harness.press(b"group 9")
    harness.press(b"group x")
    harness.press(b"group 2")
    assert harness.client.selected.number == 2
    harness.press(b"replay")
    assert not harness.client.on_button(b"lamp", harness.now_ms)
    harness.press(b"ptt-up")


def test_random_floor_control_does_not_open_the_microphone_without_the_floor():
    for seed in range(6):
        below = seeded(seed + 22179)
        harness = make_joined()
        harness.client.on_group_message(group_message(2, kind=1), harness.now_ms)
        ssrc = SHARD
        for _ in range(300):
            action = below(14)
            group = 1 + below(2)
            if action < 3:
                ssrc += 1
                harness.send_granted(ssrc, 1 + below(9), group)
            elif action == 3:
                harness.send_floor(m.DENY, ("word", m.CAUSE, 1), group=group)
            elif action == 4:
                harness.send_floor(m.REVOKE, ("word", m.CAUSE, 1 + below(4)), group=group)
            elif action == 5:
                harness.send_floor(m.QUEUE_POSITION_INFO, ("pair", m.QUEUE_INFO, (1, 254)[below(2)], 0), group=group)
            elif action == 6:
                harness.send_taken(60 + below(3), group)
            elif action == 7:
                harness.send_idle(group)
            elif action == 8:
                harness.send_floor(
                    m.ACK, ("word", m.SOURCE, m.CONTROLLING), ("pair", m.MESSAGE_TYPE, m.RELEASE), group=group
                )
            else:
                harness.press((b"ptt", b"ptt-up", b"call", b"emergency", b"group 2")[action - 9])
            harness.rtp = srtp.SrtpTransform(aes.encrypter, group_key(group)[:16], group_key(group)[16:])
            harness.on_datagram = lambda port, data: None
            harness.run(10 * (1 + below(30)))
        harness.press(b"ptt-up")
        harness.run(40000)
        assert not harness.microphone.is_open, seed
        assert harness.client.transmit_session.press is None, seed
