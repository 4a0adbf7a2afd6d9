"""Transmit session: from key down to the report, with the floor and the SSRC granted by the hub."""

from allocation import allocated
from memory_storage import MemoryStore
from patrolink_protocol import aes, srtp
from patrolink_protocol import mcptt as m
from ptt_harness import SHARD, group_key, group_message, make_joined, make_talking, outcomes, send_burst


def test_pre_roll_is_sent_after_the_grant():
    harness = make_joined()
    harness.microphone.value = lambda i: (
        0 if i < 480 else (2000 if i % 8 < 4 else -2000)
    )  # preceded by 60 ms of silence
    harness.press()
    assert harness.microphone.is_open
    harness.run(200)
    assert harness.message_types() == [m.REQUEST] and harness.floor_messages[0][1].priority == 5 and harness.media == []
    harness.send_granted()
    harness.run(10)
    # 210 ms were captured. Of the silence, 40 ms are sent; packets have 20 ms.
    assert len(harness.media) == (210 - 60 + 40) // 20
    first = harness.media[0]
    assert first[1] == 0x88 and [p[1] for p in harness.media[1:]] == [8] * (len(harness.media) - 1)
    assert [p[2] << 8 | p[3] for p in harness.media] == list(range(16384, 16384 + len(harness.media)))
    assert first[12 : 12 + 160] == b"\xd5" * 160
    assert harness.media[2][12:16] == harness.media[3][12:16] != b"\xd5" * 4
    harness.run(90)
    count = len(harness.media)
    assert count == 14
    harness.press(b"ptt-up")
    harness.run(190)
    assert harness.message_types() == [m.REQUEST] and harness.microphone.is_open
    harness.run(20)
    assert harness.message_types() == [m.REQUEST, m.RELEASE] and not harness.microphone.is_open
    assert len(harness.media) == count + 10
    values, started_ms = harness.reports[0]
    assert values["outcome"] == 0 and values["packets"] == 24 and values["duration_ms"] == 480
    assert values["access_ms"] == 210 and values["ssrc"] == SHARD + 1
    assert started_ms == 50 + 60 - 40


def test_packets_have_the_granted_ssrc():
    harness = make_talking()
    assert [p[8:12] for p in harness.media] == [(SHARD + 1).to_bytes(4, "big")] * len(harness.media)
    harness.send_granted(SHARD + 2)  # the hub started another burst
    before = len(harness.media)
    harness.run(40)
    after = harness.media[before:]
    assert [p[8:12] for p in after if p[8:12] != (SHARD + 1).to_bytes(4, "big")] and after[-1][1] == 8
    assert sum([p[1] >> 7 for p in harness.media]) == 2  # one marker bit per burst
    # No sample is sent twice.
    assert len(harness.media) * 20 <= harness.now_ms


def test_each_end_of_a_press_has_its_outcome():
    for kind, fields, outcome in (
        (m.DENY, (("word", m.CAUSE, m.DENY_TAKEN),), 2),
        (m.QUEUE_POSITION_INFO, (("pair", m.QUEUE_INFO, 1, 0),), None),
    ):
        harness = make_joined()
        harness.press()
        harness.run(50)
        harness.send_floor(kind, *fields)
        harness.run(50)
        assert outcomes(harness) == ([] if outcome is None else [outcome])
        assert not harness.microphone.is_open and harness.media == []
    harness.send_taken(77)
    harness.run(10)
    send_burst(harness, 77, 10)
    assert harness.jitter_buffer.packets == 10  # media is received while the request is queued
    harness.send_granted()  # out of the queue, while the key is still down
    harness.run(50)
    assert harness.microphone.is_open and harness.media
    harness.press(b"ptt-up")
    harness.run(300)
    assert outcomes(harness) == [1] and harness.reports[-1][0]["access_ms"] > 200
    harness = make_joined()  # the hub does not answer
    harness.press()
    harness.run(5000)
    assert outcomes(harness) == [3] and not harness.microphone.is_open
    harness = make_joined()  # key up before the answer
    harness.press()
    harness.run(50)
    harness.press(b"ptt-up")
    assert outcomes(harness) == [4] and not harness.microphone.is_open
    harness.send_granted()
    harness.run(100)
    assert harness.media == [] and not harness.microphone.is_open
    harness = make_talking()
    harness.send_floor(m.REVOKE, ("word", m.CAUSE, m.REVOKE_PREEMPTED))
    harness.run(10)
    assert outcomes(harness) == [5] and not harness.microphone.is_open
    sent = len(harness.media)
    harness.run(500)
    assert len(harness.media) == sent


def test_microphone_fault_requests_no_floor():
    harness = make_joined()
    harness.microphone.fault = True
    harness.press()
    harness.run(100)
    assert (
        harness.message_types() == [] and outcomes(harness) == [3] and harness.client.transmit_session.microphone_fault
    )
    harness.microphone.fault = False
    harness.press()
    assert not harness.client.transmit_session.microphone_fault


def test_talk_time_ends_after_a_warning_tone():
    harness = make_joined()
    harness.press()
    harness.run(50)
    harness.send_granted(seconds=8)
    harness.run(2900)
    quiet = len(harness.played)
    harness.run(300)
    assert len(harness.played) > quiet  # five seconds before the end
    harness.run(5500)
    assert not harness.microphone.is_open and m.RELEASE in harness.message_types() and outcomes(harness) == [0]


def test_stalled_main_loop_closes_the_microphone():
    harness = make_talking()
    harness.now_ms += 1500
    sent = len(harness.media)
    harness.serve()
    assert not harness.microphone.is_open and len(harness.media) == sent and harness.message_types()[-1] == m.RELEASE
    assert "closed" in harness.log[-1]


def test_microphone_is_closed_when_the_floor_state_is_inconsistent():
    harness = make_talking()
    harness.client.groups[0].floor.state = 0  # state changed without an event
    harness.serve()
    assert not harness.microphone.is_open


def test_press_within_the_hang_time_continues_the_burst():
    harness = make_talking()
    harness.press(b"ptt-up")
    harness.run(100)
    harness.press()
    harness.run(500)
    assert harness.microphone.is_open and m.RELEASE not in harness.message_types()


def test_granted_ssrc_is_used_once_also_after_a_power_loss():
    store = MemoryStore()
    harness = make_talking(store=store)
    restarted = make_joined(store=store, index=50)
    restarted.counter = 1000
    restarted.press()
    restarted.run(50)
    restarted.send_granted(SHARD + 1)  # authentic, but granted before the restart
    restarted.run(300)
    assert restarted.media == [] and not restarted.microphone.is_open
    restarted.run(3000)
    restarted.press(b"ptt-up")
    restarted.press()
    restarted.run(50)
    restarted.send_granted(SHARD + 2)
    restarted.run(50)
    assert restarted.media and harness.media
    other = make_joined(store=store, index=90)
    other.counter = 2000
    other.press()
    other.run(50)
    other.send_granted((4 << 27) + 1)  # every shard has its own counter
    other.run(50)
    assert other.media


def test_emergency_replaces_a_normal_press():
    harness = make_talking()
    harness.press(b"emergency")
    harness.run(10)
    assert harness.message_types()[-2:] == [m.RELEASE, m.REQUEST]
    assert harness.floor_messages[-1][1].indicator & m.EMERGENCY and harness.microphone.is_open
    harness.press()  # does not replace the emergency
    harness.run(10)
    assert harness.microphone.is_open and harness.message_types()[-1] == m.REQUEST
    harness = make_joined()
    harness.press()
    harness.run(20)
    harness.send_floor(m.QUEUE_POSITION_INFO, ("pair", m.QUEUE_INFO, 3, 0))
    harness.run(20)
    harness.press(b"emergency")
    harness.run(10)
    assert harness.floor_messages[-1][1].indicator & m.EMERGENCY and harness.microphone.is_open


def test_ambient_listening_ends_after_its_time_or_at_a_press():
    harness = make_joined()
    assert (
        harness.client.transmit_session.start_ambient(harness.client.groups[0], 5, harness.now_ms)
        == "not a private group"
    )
    harness.client.on_group_message(group_message(2, kind=1), harness.now_ms)
    harness.run(50)
    private = harness.client.groups[1]
    assert (
        harness.client.transmit_session.start_ambient(private, 5, harness.now_ms) is None and harness.microphone.is_open
    )
    harness.run(50)
    harness.send_granted(group=2)
    harness.rtp = srtp.SrtpTransform(aes.encrypter, group_key(2)[:16], group_key(2)[16:])
    harness.run(4800)
    assert harness.media and harness.microphone.is_open
    harness.run(200)
    assert not harness.microphone.is_open and harness.message_types()[-1] == m.RELEASE
    assert harness.client.transmit_session.start_ambient(private, 5, harness.now_ms) is None
    harness.run(50)
    harness.press()
    harness.run(20)
    assert harness.floor_messages[-1][1].ssrc == 0x80000001
    assert (
        harness.client.transmit_session.start_ambient(private, 5, harness.now_ms) == "the wearer is using push-to-talk"
    )


def test_a_sent_packet_allocates_nothing():
    harness = make_talking(frame_ms=60)
    harness.on_datagram = lambda port, data: None
    sender, rtp = harness.sender, harness.client.groups[0].rtp

    def packet():
        sender._head = sender._tail + 480
        assert sender.next_packet()
        sender.packet_view(rtp.protect(sender.packet, sender.n, 0))

    assert allocated(packet) == 0
