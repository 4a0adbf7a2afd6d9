import patrolink_messages as m
from patrolink_protocol import codec, decode
from patrolink_protocol.frame import RejectError

STATUS = {
    "uptime_s": 61,
    "gps_mode": 3,
    "errors": 0,
    "gps_sats": 9,
    "battery_pct": None,
    "signal_dbm": -97,
    "heap_free_kb": 100,
    "queue_frames": 0,
    "dropped_frames": 0,
    "reconnects": 1,
    "link": 5,
    "rung": 0,
    "nmea_sentences": 4294967295,
    "nmea_errors": 2,
    "fixes": 60,
}
HELLO = {
    "boot": 3,
    "schema_hash": m.SCHEMA_HASH,
    "minor": 0,
    "profiles": 1,
    "heap_kb": 192,
    "date_floor": 20000,
    "batch_fixes": 60,
    "board": b"unix",
    "firmware": b"0.1.0",
    "runtime": "Ω".encode(),
}


def encoded(kind, values):
    buf = bytearray(256)
    return bytes(buf[: codec.encode_into(kind, values, buf, 0)])


def refused(kind, body):
    try:
        decode.decode(kind, body)
    except RejectError as e:
        return e.name
    return None


def test_status_comes_back():
    got = decode.decode(m.DEVICE_STATUS, encoded(m.DEVICE_STATUS, STATUS))
    for name in STATUS:
        assert got[name] == STATUS[name], name
    assert got["temperature_c"] is None and got["message"] == "device_status"


def test_hello_comes_back():
    got = decode.decode(m.HELLO, encoded(m.HELLO, HELLO))
    assert got["board"] == "unix" and got["runtime"] == "Ω" and got["boot"] == 3


def test_a_later_versions_fields_are_passed_over():
    body = encoded(m.HELLO, HELLO)
    assert decode.decode(m.HELLO, body + b"\x01\x02\x03") == decode.decode(m.HELLO, body)


def test_what_does_not_fit_is_refused_not_wrapped():
    for name, value in (
        ("gps_mode", 4),
        ("uptime_s", 1 << 32),
        ("uptime_s", -1),
        ("signal_dbm", 1),
        ("uptime_s", None),
    ):
        values = dict(STATUS)
        values[name] = value
        try:
            encoded(m.DEVICE_STATUS, values)
        except codec.FieldError:
            continue
        raise AssertionError(name)
    try:
        values = dict(HELLO)
        values["board"] = b"x" * 25
        encoded(m.HELLO, values)
    except codec.FieldError:
        return
    raise AssertionError("board")


def test_truncations_are_refused():
    for kind, values in ((m.HELLO, HELLO), (m.DEVICE_STATUS, STATUS)):
        body = encoded(kind, values)
        for n in range(len(body)):
            assert refused(kind, body[:n]) == "length"


def test_illegal_values_are_refused():
    body = bytearray(encoded(m.DEVICE_STATUS, STATUS))
    body[4] = 9
    assert refused(m.DEVICE_STATUS, bytes(body)) == "range"
    hello = bytearray(encoded(m.HELLO, HELLO))
    hello[16] = 200
    assert refused(m.HELLO, bytes(hello)) == "length"
    hello[16] = 25
    assert refused(m.HELLO, bytes(hello) + bytes(20)) == "range"
    hello[16] = 4
    hello[17] = 0xFF
    assert refused(m.HELLO, bytes(hello)) == "range"
    assert refused(31, b"") == "type"
