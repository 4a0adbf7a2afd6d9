"""Frames: tags, truncations, flags, types, epochs, tails."""

import patrolink_messages as m
from patrolink_protocol import frame, tail
from patrolink_protocol.errors import RejectError
from patrolink_protocol.key_derivation import hmac, hmac_pads

KEY = bytes(range(32))


def seal(body=b"body", counter=7, direction=frame.UPLINK, device=b"dev-1"):
    buf = bytearray(64)
    buf[frame.HEADER_BYTES : frame.HEADER_BYTES + len(body)] = body
    n = frame.Channel(KEY, device, direction).seal_into(buf, m.HELLO, counter, frame.HEADER_BYTES + len(body))
    return bytes(buf[:n])


def reject_reason(data, key=KEY, device=b"dev-1", direction=frame.UPLINK):
    try:
        frame.Channel(key, device, direction).open_frame(data)
    except RejectError as e:
        assert m.REASONS.split()[e.reason - 1] == e.name
        return e.name
    return None


def test_sealed_frame_opens():
    kind, counter, body, extensions = frame.Channel(KEY, b"dev-1").open_frame(seal())
    assert (kind, counter, bytes(body), extensions) == (m.HELLO, 7, b"body", [])
    assert frame.parse_header(seal(counter=frame.COUNTER_MAX)) == (m.HELLO, 0, frame.COUNTER_MAX)


def test_every_flipped_bit_is_refused():
    good = seal()
    for i in range(len(good) * 8):
        bad = bytearray(good)
        bad[i >> 3] ^= 1 << (i & 7)
        assert reject_reason(bytes(bad)) in ("tag", "version", "length")


def test_every_truncation_is_refused():
    good = seal()
    for n in range(len(good)):
        assert reject_reason(good[:n]) == ("length" if n < frame.HEADER_BYTES + m.TAG_BYTES else "tag")
    assert reject_reason(bytes(m.MAX_FRAME + 1)) == "length"


def test_tag_covers_key_device_and_direction():
    good = seal()
    assert reject_reason(good) is None
    assert reject_reason(good, key=bytes(32)) == "tag"
    assert reject_reason(good, device=b"dev-2") == "tag"
    assert reject_reason(good, direction=frame.DOWNLINK) == "tag"


def reseal(data, direction=frame.UPLINK, epoch=0):
    """Return the same bytes with a correct tag, as a faulty device with the key would send them."""
    n = frame.tag_bytes(data[0] & 31)
    key = hmac(hmac_pads(KEY), (b"patrolink-up", b"patrolink-down")[direction], bytes([0, 0, 0, epoch]))
    tag = hmac(hmac_pads(key), b"\x05dev-1" + bytes([direction]), data[:-n])
    return data[:-n] + tag[:n]


def test_unknown_flags_of_an_authentic_frame_are_critical():
    for flag in (0x10, 0x30, 0x40):
        good = bytearray(seal())
        good[1] |= flag
        assert reject_reason(reseal(bytes(good))) == "critical"


def test_each_type_has_a_direction_and_a_tag_length():
    for kind in range(32):
        data = reseal(bytes([0x20 | kind]) + bytes(40))
        assert reject_reason(data) == (None if m.UP >> kind & 1 else "type"), kind
        data = reseal(bytes([0x20 | kind]) + bytes(40), frame.DOWNLINK)
        assert reject_reason(data, direction=frame.DOWNLINK) == (None if m.DOWN >> kind & 1 else "type"), kind
    assert [frame.tag_bytes(kind) for kind in (m.HELLO, 19, 20, m.COMMAND, 31)] == [8, 8, 16, 16, 16]
    assert reject_reason(bytes([0x20 | m.COMMAND]) + bytes(19), direction=frame.DOWNLINK) == "length"


def test_each_epoch_has_a_key_and_a_phase():
    buf = bytearray(64)
    n = frame.Channel(KEY, b"dev-1", frame.UPLINK, 1).seal_into(buf, m.HELLO, 0, 9)
    data = bytes(buf[:n])
    assert frame.parse_header(data) == (m.HELLO, m.FLAG_PHASE, 0)
    assert reject_reason(data) == "tag"
    assert frame.Channel(KEY, b"dev-1", frame.UPLINK, 1).open_frame(data)[0] == m.HELLO
    # With a correct tag, the phase must match as well.
    assert reject_reason(reseal(data)) == "critical"


def test_tails_round_trip_and_invalid_ones_are_refused():
    buf = bytearray(80)
    channel = frame.Channel(KEY, b"dev-1")
    for extensions in ([], [(1, 0, b"abc")], [(64, 0, b""), (1, 0, b"x" * 20)]):
        buf[5:9] = b"body"
        end = tail.write_into(buf, 9, extensions)
        n = channel.seal_into(buf, m.HELLO, 1, end, True)
        _, _, body, decoded = channel.open_frame(bytes(buf[:n]))
        assert bytes(body) == b"body" and decoded == extensions
    end = tail.write_into(buf, 9, [(1, 0, b"abc"), (2, 1, b"")])
    assert reject_reason(bytes(buf[: channel.seal_into(buf, m.HELLO, 1, end, True)])) == "critical"
    for invalid in (b"\x01\x03ab\x04", b"\x05", b"\x01\x01", b"\x01\x00\x02\x02", b"\xff"):
        buf[5 : 5 + len(invalid)] = invalid
        assert reject_reason(bytes(buf[: channel.seal_into(buf, m.HELLO, 1, 5 + len(invalid), True)])) == "length", (
            invalid
        )
    assert reject_reason(bytes(buf[: channel.seal_into(buf, m.HELLO, 1, 5, True)])) == "length"
    for bad in ([(0, 0, b"")], [(128, 0, b"")], [(1, 0, bytes(254))], [(1, 0, bytes(100)), (1, 0, bytes(152))]):
        try:
            tail.write_into(bytearray(400), 9, bad)
        except ValueError:
            continue
        raise AssertionError(bad)


def test_invalid_keys_ids_and_counters_raise_value_error():
    for make in (
        lambda: frame.Channel(b"short", b"dev-1"),
        lambda: frame.Channel(KEY, b""),
        lambda: frame.Channel(KEY, b"x" * 33),
        lambda: seal(counter=frame.COUNTER_MAX + 1),
        lambda: seal(counter=-1),
    ):
        try:
            make()
        except ValueError:
            continue
        raise AssertionError("accepted")
