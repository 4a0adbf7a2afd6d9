import patrolink_messages as m
from patrolink_protocol import frame, tail
from patrolink_protocol.errors import RejectError
from patrolink_protocol.key_derivation import hmac, hmac_pads

KEY = bytes(range(32))


def sealed(body=b"body", counter=7, direction=frame.UPLINK, device=b"dev-1"):
    buf = bytearray(64)
    buf[frame.HEADER_BYTES : frame.HEADER_BYTES + len(body)] = body
    n = frame.Channel(KEY, device, direction).seal_into(buf, m.HELLO, counter, frame.HEADER_BYTES + len(body))
    return bytes(buf[:n])


def reason(data, key=KEY, device=b"dev-1", direction=frame.UPLINK):
    try:
        frame.Channel(key, device, direction).open_frame(data)
    except RejectError as e:
        assert m.REASONS.split()[e.reason - 1] == e.name
        return e.name
    return None


def test_a_sealed_frame_opens():
    kind, counter, body, extensions = frame.Channel(KEY, b"dev-1").open_frame(sealed())
    assert (kind, counter, bytes(body), extensions) == (m.HELLO, 7, b"body", [])
    assert frame.parse_header(sealed(counter=frame.COUNTER_MAX)) == (m.HELLO, 0, frame.COUNTER_MAX)


def test_every_flipped_bit_is_refused():
    good = sealed()
    for i in range(len(good) * 8):
        bad = bytearray(good)
        bad[i >> 3] ^= 1 << (i & 7)
        assert reason(bytes(bad)) in ("tag", "version", "length")


def test_every_truncation_is_refused():
    good = sealed()
    for n in range(len(good)):
        assert reason(good[:n]) == ("length" if n < frame.HEADER_BYTES + m.TAG_BYTES else "tag")
    assert reason(bytes(m.MAX_FRAME + 1)) == "length"


def test_key_device_and_direction_are_under_the_tag():
    good = sealed()
    assert reason(good) is None
    assert reason(good, key=bytes(32)) == "tag"
    assert reason(good, device=b"dev-2") == "tag"
    assert reason(good, direction=frame.DOWNLINK) == "tag"


def resealed(data, direction=frame.UPLINK, epoch=0):
    """The same bytes under a right tag: what a buggy but genuine device would send."""
    n = frame.tag_bytes(data[0] & 31)
    key = hmac(hmac_pads(KEY), (b"patrolink-up", b"patrolink-down")[direction], bytes([0, 0, 0, epoch]))
    tag = hmac(hmac_pads(key), b"\x05dev-1" + bytes([direction]), data[:-n])
    return data[:-n] + tag[:n]


def test_unknown_flags_are_critical_even_when_genuine():
    for flag in (0x10, 0x20, 0x40):
        good = bytearray(sealed())
        good[1] |= flag
        assert reason(resealed(bytes(good))) == "critical"


def test_types_have_their_direction_and_tag():
    for kind in range(32):
        data = resealed(bytes([0x20 | kind]) + bytes(40))
        assert reason(data) == (None if m.UP >> kind & 1 else "type"), kind
        data = resealed(bytes([0x20 | kind]) + bytes(40), frame.DOWNLINK)
        assert reason(data, direction=frame.DOWNLINK) == (None if m.DOWN >> kind & 1 else "type"), kind
    assert frame.tag_bytes(m.COMMAND) == 16 and frame.tag_bytes(m.HELLO) == 8 and frame.tag_bytes(31) == 8
    assert reason(bytes([0x20 | m.COMMAND]) + bytes(19), direction=frame.DOWNLINK) == "length"


def test_an_epoch_has_its_own_key_and_phase():
    buf = bytearray(64)
    n = frame.Channel(KEY, b"dev-1", frame.UPLINK, 1).seal_into(buf, m.HELLO, 0, 9)
    data = bytes(buf[:n])
    assert frame.parse_header(data) == (m.HELLO, m.FLAG_PHASE, 0)
    assert reason(data) == "tag"
    assert frame.Channel(KEY, b"dev-1", frame.UPLINK, 1).open_frame(data)[0] == m.HELLO
    # Under a right tag the phase has to be right as well.
    assert reason(resealed(data)) == "critical"


def test_tails():
    buf = bytearray(80)
    channel = frame.Channel(KEY, b"dev-1")
    for extensions in ([], [(1, 0, b"abc")], [(64, 0, b""), (1, 0, b"x" * 20)]):
        buf[5:9] = b"body"
        end = tail.write_into(buf, 9, extensions)
        n = channel.seal_into(buf, m.HELLO, 1, end, True)
        _, _, body, got = channel.open_frame(bytes(buf[:n]))
        assert bytes(body) == b"body" and got == extensions
    end = tail.write_into(buf, 9, [(1, 0, b"abc"), (2, 1, b"")])
    assert reason(bytes(buf[: channel.seal_into(buf, m.HELLO, 1, end, True)])) == "critical"
    for wrong in (b"\x01\x03ab\x04", b"\x05", b"\x01\x01", b"\x01\x00\x02\x02", b"\xff"):
        buf[5 : 5 + len(wrong)] = wrong
        assert reason(bytes(buf[: channel.seal_into(buf, m.HELLO, 1, 5 + len(wrong), True)])) == "length", wrong
    assert reason(bytes(buf[: channel.seal_into(buf, m.HELLO, 1, 5, True)])) == "length"
    for bad in ([(0, 0, b"")], [(128, 0, b"")], [(1, 0, bytes(254))], [(1, 0, bytes(100)), (1, 0, bytes(152))]):
        try:
            tail.write_into(bytearray(400), 9, bad)
        except ValueError:
            continue
        raise AssertionError(bad)


def test_bad_keys_ids_and_counters_cannot_be_used():
    for make in (
        lambda: frame.Channel(b"short", b"dev-1"),
        lambda: frame.Channel(KEY, b""),
        lambda: frame.Channel(KEY, b"x" * 33),
        lambda: sealed(counter=frame.COUNTER_MAX + 1),
        lambda: sealed(counter=-1),
    ):
        try:
            make()
        except ValueError:
            continue
        raise AssertionError("accepted")
