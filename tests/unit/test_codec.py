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


POSITION = {"event_id": 1, "kind": 1, "phase": 0, "ack_wanted": 1, "cause": 0, "time_ms": 1, "lat_e7": 1, "lon_e7": 2}


def test_values_of_a_wrong_type_raise_field_error():
    event = dict(POSITION)
    event["text"] = b""
    for name, value in (
        ("event_id", float("nan")),
        ("event_id", float("inf")),
        ("time_ms", 1.5),
        ("kind", "1"),
        ("text", "text"),
        ("text", 5),
        ("text", b"\xc3\x28"),
        ("text", b"\xed\xa0\x80"),
        ("text", b"\xff"),
        ("time_ms", m.TIME_MAX_MS + 1),
    ):
        values = dict(event)
        values[name] = value
        try:
            encode(m.EVENT, values)
        except codec.FieldError as e:
            assert name in str(e), (name, value, str(e))
            continue
        raise AssertionError((name, value))
    assert decode.decode(m.EVENT, encode(m.EVENT, event))["lat_e7"] == 1


def test_contradictory_pairs_are_refused_by_encoder_and_decoder():
    event = dict(POSITION)
    event["text"] = b"x"
    body = bytearray(encode(m.EVENT, event))
    for name in ("lat_e7", "lon_e7"):
        for unknown in (None, -(1 << 31)):
            values = dict(event)
            values[name] = unknown
            try:
                encode(m.EVENT, values)
            except codec.FieldError as e:
                assert "lat_e7 and lon_e7" in str(e)
                continue
            raise AssertionError(name)
    values = dict(event)
    values["lat_e7"] = values["lon_e7"] = None
    assert decode.decode(m.EVENT, encode(m.EVENT, values))["lon_e7"] is None
    body[16:20] = b"\x80\x00\x00\x00"
    assert reject_reason(m.EVENT, bytes(body)) == "range"


def test_utf8_is_that_of_rfc_3629():
    for text in ("", "a", "\x00", "\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U0010ffff"):
        assert codec.is_utf8(text.encode()), text
        assert codec.is_utf8(b"a" + text.encode() + b"b")
    for data in (
        b"\x80",
        b"\xc1\xbf",
        b"\xc2",
        b"\xc2a",
        b"\xe0\x9f\xbf",
        b"\xed\xbf\xbf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf5",
    ):
        assert not codec.is_utf8(data) and not codec.is_utf8(b"a" + data + b"b"), data
    assert not codec.is_utf8(b"\xf4\x90\x80\x80") and not codec.is_utf8(b"\xe2\x82") and not codec.is_utf8(b"\xff")
