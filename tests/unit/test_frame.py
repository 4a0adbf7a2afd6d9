import patrolink_messages as m
from patrolink_protocol import frame

KEY = bytes(range(32))


def sealed(body=b"body", counter=7, direction=frame.UPLINK, device=b"dev-1"):
    buf = bytearray(64)
    buf[frame.HEADER : frame.HEADER + len(body)] = body
    n = frame.Channel(KEY, device, direction).seal_into(buf, m.HELLO, counter, frame.HEADER + len(body))
    return bytes(buf[:n])


def reason(data, key=KEY, device=b"dev-1", direction=frame.UPLINK):
    try:
        frame.open_frame(data, key, device, direction)
    except frame.Reject as e:
        assert e.reason == m.REJECT[e.name]
        return e.name
    return None


def test_hmac_is_rfc_4231s():
    # RFC 4231, test cases 1 and 2
    mac = frame.Mac(b"\x0b" * 20).digest(b"Hi ", b"There")
    assert mac[:8] == bytes([0xB0, 0x34, 0x4C, 0x61, 0xD8, 0xDB, 0x38, 0x53])
    mac = frame.Mac(b"Jefe").digest(b"what do ya want for nothing?")
    assert mac[-4:] == bytes([0x64, 0xEC, 0x38, 0x43])


def test_a_sealed_frame_opens():
    kind, counter, body = frame.open_frame(sealed(), KEY, b"dev-1")
    assert (kind, counter, bytes(body)) == (m.HELLO, 7, b"body")
    assert frame.peek(sealed(counter=frame.COUNTER_MAX)) == (m.HELLO, 0, frame.COUNTER_MAX)


def test_every_flipped_bit_is_refused():
    good = sealed()
    for i in range(len(good) * 8):
        bad = bytearray(good)
        bad[i >> 3] ^= 1 << (i & 7)
        assert reason(bytes(bad)) in ("tag", "version")


def test_every_truncation_is_refused():
    good = sealed()
    for n in range(len(good)):
        assert reason(good[:n]) == ("length" if n < frame.HEADER + frame.TAG else "tag")
    assert reason(bytes(m.MAX_FRAME + 1)) == "length"


def test_key_device_and_direction_are_under_the_tag():
    good = sealed()
    assert reason(good) is None
    assert reason(good, key=bytes(32)) == "tag"
    assert reason(good, device=b"dev-2") == "tag"
    assert reason(good, direction=frame.DOWNLINK) == "tag"


def test_unknown_flags_are_critical_even_when_genuine():
    good = bytearray(sealed())
    good[1] |= 0x80
    mac = frame.Mac(frame.Mac(KEY).digest(b"patrolink-up"))
    good[-frame.TAG :] = mac.digest(b"\x05dev-1\x00", bytes(good[: -frame.TAG]))[: frame.TAG]
    assert reason(bytes(good)) == "critical"


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
