"""Reports of groups and keys to the hub: format, receiver reports, ptt_status, and keys that are missing or wrong."""

import patrolink_messages as m
from agent.ptt import playback
from agent.ptt.status import PttStatus
from patrolink_protocol import group_report, srtp
from ptt_harness import HUB, LOUD, SHARD, group_key, group_message, make_joined, make_talking, send_burst, wrap
from seeded_random import seeded


def wire_terms(**overrides):
    terms = group_message(**overrides)
    del terms["wrapped"]
    terms["host"] = terms["host"].encode()
    terms["name"] = terms["name"].encode()
    return terms


def expected(group=1, key=1, **overrides):
    """Return the Entry of a group whose terms are those of group_message."""
    digest = group_report.terms_digest(wire_terms(group=group, key=key, **overrides), group_key(group))
    return group_report.Entry(group, key, digest)


def raises_value_error(function, *args):
    try:
        function(*args)
    except ValueError:
        return True
    return False


# --- format -------------------------------------------------------------------------------------------------------


def test_receiver_report_holds_all_entries():
    for count in (0, 1, 2, 8, group_report.MAX_GROUPS):
        entries = [group_report.Entry(1 << 31 | i, 65535 - i, bytes([i] * 4)) for i in range(count)]
        data = b"".join([group_report.pack_entry(*entry) for entry in entries])
        packet = group_report.receiver_report(7, data)
        assert len(packet) == 4 * (packet[3] + 1) and len(packet) <= 8 + 2 + 10 * count + 3
        assert packet[0] == 0x80 and packet[1] == 201
        assert group_report.read_receiver_report(bytes(packet)) == (7, entries)
    assert group_report.read_receiver_report(bytes((0x80, 201, 0, 1, 0, 0, 0, 5))) is None


def test_malformed_reports_are_refused():
    packet = bytes(group_report.receiver_report(1, bytes(20)))
    for n in range(9, len(packet) - 2):
        assert raises_value_error(group_report.read_receiver_report, packet[:n])
    assert raises_value_error(group_report.unpack_entries, bytes(11))
    for seed in range(300):
        below = seeded(seed)
        data = bytes([below(256) for _ in range(below(60))])
        try:
            report = group_report.read_receiver_report(data)
            assert report is None or len(report[1]) <= 25, seed
        except ValueError:
            pass


def test_digest_covers_all_terms_and_the_key():
    reference = group_report.terms_digest(wire_terms(), group_key(1))
    assert len(reference) == 4 and reference == group_report.terms_digest(wire_terms(), group_key(1))
    assert reference != group_report.terms_digest(wire_terms(), group_key(2))
    for name, value in wire_terms().items():
        changed = wire_terms()
        changed[name] = value + b"x" if isinstance(value, bytes) else value ^ 1
        assert group_report.terms_digest(changed, group_key(1)) != reference, name


# --- receiver reports ---------------------------------------------------------------------------------------------


def test_groups_are_reported_at_once_and_with_each_keepalive():
    harness = make_joined()
    assert harness.group_reports == [(0x80000001, 7, [expected()])]
    harness.client.on_group_message(group_message(2), harness.now_ms)
    harness.run(10)
    assert harness.group_reports[1:] == [(0x80000002, 6, [expected(), expected(2)])]
    harness.client.on_group_message(group_message(2, rank=9), harness.now_ms)
    harness.run(10)
    assert harness.group_reports[-1][2] == [expected(), expected(2, rank=9)]
    count = len(harness.group_reports)
    harness.client.on_group_message(group_message(2, rank=9), harness.now_ms)
    harness.run(10)
    assert len(harness.group_reports) == count, "nothing has changed"
    harness.run(65_000)
    reports = harness.group_reports[count:]
    assert len(reports) == 4
    assert {ssrc for ssrc, _, _ in reports} == {0x80000001, 0x80000002}, "the hub may not know one of the SSRCs"
    harness.client.on_group_message(group_message(1, rights=0), harness.now_ms)
    harness.run(10)
    assert harness.group_reports[-1] == (0x80000002, 7, [expected(2, rank=9)])


def test_new_key_with_the_number_of_the_old_one_is_used():
    harness = make_joined()
    harness.client.on_group_message(group_message(wrapped=wrap(group_key(9))), harness.now_ms)
    harness.run(10)
    digest = group_report.terms_digest(wire_terms(), group_key(9))
    assert harness.group_reports[-1][2] == [group_report.Entry(1, 1, digest)]


def test_reports_follow_each_other_closely_while_transmitting():
    harness = make_joined()
    harness.run(1000)
    harness.press()
    harness.run(100)
    harness.send_granted()
    harness.run(20)
    del harness.report_times[:]
    harness.run(8000)
    for port in (HUB[1], HUB[2]):
        times = [ms for p, ms in harness.report_times if p == port]
        assert len(times) == 4 and max([b - a for a, b in zip(times, times[1:])]) <= 2010, times
    harness.press(b"ptt-up")
    harness.run(1000)
    del harness.report_times[:]
    harness.run(10_000)
    assert not harness.report_times


def test_report_is_sent_when_the_media_of_a_talker_does_not_arrive():
    harness = make_joined()
    harness.run(5000)
    del harness.report_times[:]
    harness.send_taken(SHARD + 5)
    harness.run(350)
    assert not harness.report_times
    harness.run(250)
    assert [port for port, _ in harness.report_times] == [HUB[1], HUB[2]]
    harness.run(2000)
    assert len(harness.report_times) == 4
    send_burst(harness, SHARD + 5, 110)  # one more report was scheduled meanwhile
    del harness.report_times[:]
    send_burst(harness, SHARD + 5, 110, first=110)
    assert not harness.report_times
    harness.run(500)  # the media stops without Floor Idle: the address has changed in the middle of the burst
    assert len(harness.report_times) == 2
    harness.send_idle()
    harness.run(10_000)
    assert len(harness.report_times) <= 4


# --- keys ---------------------------------------------------------------------------------------------------------


def test_group_without_a_usable_key_is_shown_and_reported():
    harness = make_joined()
    harness.client.on_group_message(group_message(2, wrapped=bytes(40)), harness.now_ms)
    assert harness.sounds._tone == playback.NO_KEY_TONE and "key of group 2 rejected" in "\n".join(harness.log)
    harness.run(1000)
    assert [(e.group, e.key) for e in harness.group_reports[-1][2]] == [(1, 1), (2, 0)]
    lines = len(harness.log)
    harness.client.on_group_message(group_message(2, wrapped=bytes(40)), harness.now_ms)
    assert len(harness.log) == lines, "the wearer is alerted once"
    harness.press(b"group 2")
    harness.press()
    assert not harness.microphone.is_open and harness.sounds._tone == playback.DENY_TONE
    harness.send_taken(SHARD + 5, group=2)
    harness.run(20)
    harness.send_media(SHARD + 5, 0, LOUD, group=2)
    harness.run(20)
    harness.send_idle(group=2)
    harness.client.on_group_message(group_message(2), harness.now_ms)
    harness.run(500)
    assert harness.group_reports[-1][2] == [expected(), expected(2)]
    harness.press()
    assert harness.microphone.is_open


def test_rejected_new_key_leaves_the_burst_alone_and_is_reported():
    harness = make_talking()
    harness.client.on_group_message(group_message(key=2, wrapped=bytes(40)), harness.now_ms)
    harness.run(100)
    assert harness.sender.on_air and harness.group_reports[-1][2][0].key == 0


def test_voice_that_no_key_opens_is_shown_and_reported_once_in_30_s():
    harness = make_joined()
    harness.run(1000)
    del harness.group_reports[:]
    for _ in range(2):
        harness.send_taken(SHARD + 5)
        for i in range(75):
            harness.send_media(SHARD + 5, i, LOUD, group=1 if i % 25 == 24 else 9)  # some packets are authentic
            harness.run(20)
        harness.send_idle()
        harness.run(500)
    assert not [e for _, _, entries in harness.group_reports for e in entries if e.key == 0]
    lines = len(harness.log)
    for burst in range(3):
        harness.send_taken(SHARD + 6 + burst)
        send_burst(harness, SHARD + 6 + burst, 75, group=9)
        harness.send_idle()
        harness.run(500)
    assert len(harness.log) == lines + 1 and "group 1 cannot be decrypted" in harness.log[-1]
    faults = [e for _, _, entries in harness.group_reports for e in entries if e.key == 0]
    assert faults
    harness.send_taken(SHARD + 20)
    send_burst(harness, SHARD + 20, 5)
    harness.run(20)
    assert harness.group_reports[-1][2] == [expected()], "the key opens voice again"


def test_packets_that_are_not_authentic_are_logged_with_the_loss_of_the_hub():
    harness = make_joined()
    harness.is_mute = True
    harness._srtcp_down = srtp.SrtcpTransform(lambda key: lambda blocks, out: None, bytes(16), bytes(14))
    for _ in range(50):
        harness.send_idle()
        harness.run(1000)
    assert "hub hub does not answer" in harness.log[-1] and "not authentic" in harness.log[-1], harness.log


# --- ptt_status ---------------------------------------------------------------------------------------------------


class FakeSession:
    def __init__(self):
        self.is_open = False
        self.connects = 0


def test_status_is_sent_with_each_session_after_changes_and_periodically():
    harness = make_joined()
    session, sent = FakeSession(), []
    status = PttStatus(harness.client, session, lambda kind, values: sent.append((kind, values)), 60)

    def run(ms):
        del sent[:]
        for _ in range(ms // 100):
            harness.now_ms += 100
            status.poll(harness.now_ms)
        return len(sent)

    assert run(200_000) == 0, "a report that waits for a session would be outdated"
    session.is_open, session.connects = True, 1
    assert run(1000) == 1
    assert sent == [(m.PTT_STATUS, {"room": 7, "groups": group_report.pack_entry(*expected())})]
    for number in (2, 3):
        harness.client.on_group_message(group_message(number), harness.now_ms)
    assert run(900) == 0 and run(200) == 1 and len(sent[0][1]["groups"]) == 30
    assert run(180_000) == 3
    session.connects = 2
    assert run(100) == 1
