"""Bodies of scalar messages: round trips, limits, truncations."""

import patrolink_messages as m
from patrolink_protocol import codec, decode
from patrolink_protocol.errors import RejectError

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
    "content": bytes(range(8)),
    "rollback_floor": 7,
    "platform": 1,
}


def encode(kind, values):
    buf = bytearray(256)
    return bytes(buf[: codec.encode_into(kind, values, buf, 0)])


def reject_reason(kind, body):
    try:
        decode.decode(kind, body)
    except RejectError as e:
        return e.name
    return None


def test_status_round_trips():
    message = decode.decode(m.DEVICE_STATUS, encode(m.DEVICE_STATUS, STATUS))
    for name in STATUS:
        assert message[name] == STATUS[name], name
    assert message["temperature_c"] is None and message["message"] == "device_status"


def test_hello_round_trips():
    message = decode.decode(m.HELLO, encode(m.HELLO, HELLO))
    assert message["board"] == "unix" and message["runtime"] == "Ω" and message["boot"] == 3


def test_fields_of_a_later_version_are_ignored():
    body = encode(m.HELLO, HELLO)
    assert decode.decode(m.HELLO, body + b"\x01\x02\x03") == decode.decode(m.HELLO, body)


def test_values_out_of_range_raise_field_error():
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
            encode(m.DEVICE_STATUS, values)
        except codec.FieldError:
            continue
        raise AssertionError(name)
    try:
        values = dict(HELLO)
        values["board"] = b"x" * 25
        encode(m.HELLO, values)
    except codec.FieldError:
        return
    raise AssertionError("board")


def test_truncations_are_refused():
    for kind, values in ((m.HELLO, HELLO), (m.DEVICE_STATUS, STATUS)):
        body = encode(kind, values)
        for n in range(len(body)):
            assert reject_reason(kind, body[:n]) == "length"


def test_illegal_values_are_refused():
    body = bytearray(encode(m.DEVICE_STATUS, STATUS))
    body[4] = 9
    assert reject_reason(m.DEVICE_STATUS, bytes(body)) == "range"
    hello = bytearray(encode(m.HELLO, HELLO))
    hello[16] = 200
    assert reject_reason(m.HELLO, bytes(hello)) == "length"
    hello[16] = 25
    assert reject_reason(m.HELLO, bytes(hello) + bytes(20)) == "range"
    hello[16] = 4
    hello[17] = 0xFF
    assert reject_reason(m.HELLO, bytes(hello)) == "range"
    assert reject_reason(31, b"") == "type"
