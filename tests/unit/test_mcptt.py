"""Floor control messages: encoding, decoding and refusal of invalid ones (TS 24.380, clause 8.2)."""

from allocation import allocated
from patrolink_protocol import mcptt as m
from seeded_random import seeded

SSRC = 0x87654321


def encode(kind, *fields, ack=False):
    """Return a message; fields are (method of Writer, id, values...)."""
    w = m.Writer(bytearray(512))
    w.begin(kind, SSRC, ack)
    for name, *values in fields:
        getattr(w, name)(*values)
    return bytes(w.buf[: w.end()])


FLOOR_REQUEST = encode(
    m.REQUEST, ("pair", m.PRIORITY, 7), ("text", m.USER_ID, b"sip:dev-1@site"), ("word", m.INDICATOR, m.NORMAL)
)
FLOOR_GRANTED = encode(
    m.GRANTED, ("word", m.DURATION, 30), ("audio_ssrc", 0x12345678), ("pair", m.PRIORITY, 7), ack=True
)
FLOOR_TAKEN = encode(
    m.TAKEN,
    ("text", m.GRANTED_PARTY, b"sip:dev-2@site"),
    ("word", m.PERMISSION, 1),
    ("word", m.SEQUENCE, 65535),
    ("audio_ssrc", 0x7FFFFFFF),
    ("word", m.INDICATOR, m.EMERGENCY | m.QUEUEING),
)
FLOOR_DENY = encode(m.DENY, ("word", m.CAUSE, m.DENY_QUEUE_FULL))
FLOOR_RELEASE = encode(m.RELEASE, ("text", m.USER_ID, b"sip:dev-1@site"), ack=True)
FLOOR_IDLE = encode(m.IDLE, ("word", m.SEQUENCE, 3))
FLOOR_REVOKE = encode(m.REVOKE, ("word", m.CAUSE, m.REVOKE_NO_PERMISSION))
POSITION_REQUEST = encode(m.QUEUE_POSITION_REQUEST, ("text", m.USER_ID, b"sip:dev-1@site"))
POSITION_INFO = encode(m.QUEUE_POSITION_INFO, ("pair", m.QUEUE_INFO, m.NOT_QUEUED, 0))
FLOOR_ACK = encode(m.ACK, ("word", m.SOURCE, m.PARTICIPANT), ("pair", m.MESSAGE_TYPE, m.GRANTED))
UPLINK = (FLOOR_REQUEST, FLOOR_RELEASE, POSITION_REQUEST, FLOOR_ACK)
DOWNLINK = (FLOOR_GRANTED, FLOOR_TAKEN, FLOOR_DENY, FLOOR_IDLE, FLOOR_REVOKE, POSITION_INFO, FLOOR_ACK)


def decode(data, allowed):
    message = m.Message()
    assert message.read(data, 0, len(data), allowed) == len(data)
    return message


def is_refused(data, allowed):
    try:
        m.Message().read(data, 0, len(data), allowed)
    except m.FloorError:
        return True
    return False


def field(kind, number, value, wide=False):
    """Return a message with one field that does not pass the checks of Writer."""
    body = bytes([number]) + len(value).to_bytes(2 if wide else 1, "big") + value
    body += bytes(-len(body) % 4)
    return bytes([0x80 | kind, 204, 0, 2 + len(body) // 4]) + bytes(4) + b"MCPT" + body


def test_messages_round_trip():
    message = decode(FLOOR_REQUEST, m.UPLINK_TYPES)
    assert (message.type, message.ssrc, message.ack) == (m.REQUEST, SSRC, False)
    assert (message.priority, message.indicator) == (7, m.NORMAL)
    assert FLOOR_REQUEST[message.user_at : message.user_at + message.user_n] == b"sip:dev-1@site"
    message = decode(FLOOR_GRANTED, m.DOWNLINK_TYPES)
    assert (message.type, message.ack) == (m.GRANTED, True)
    assert (message.duration, message.audio_ssrc, message.priority) == (30, 0x12345678, 7)
    message = decode(FLOOR_TAKEN, m.DOWNLINK_TYPES)
    assert (message.permission, message.sequence) == (1, 65535)
    assert (message.audio_ssrc, message.indicator) == (0x7FFFFFFF, 0x1400)
    assert FLOOR_TAKEN[message.party_at : message.party_at + message.party_n] == b"sip:dev-2@site"
    assert decode(FLOOR_DENY, m.DOWNLINK_TYPES).cause == 7 and decode(FLOOR_REVOKE, m.DOWNLINK_TYPES).cause == 3
    assert decode(FLOOR_IDLE, m.DOWNLINK_TYPES).sequence == 3 and decode(FLOOR_ACK, m.UPLINK_TYPES).acked == m.GRANTED
    message = decode(POSITION_INFO, m.DOWNLINK_TYPES)
    assert message.position == 254 and message.queue_priority == 0


def test_messages_match_the_tables_of_the_standard():
    # Floor Taken is type 2 and Floor Deny type 3.
    assert [d[0] & 15 for d in UPLINK] == [0, 4, 8, 10]
    assert [d[0] & 15 for d in DOWNLINK] == [1, 2, 3, 5, 6, 9, 10]
    assert all([d[1] == 204 and d[8:12] == b"MCPT" and len(d) == 4 * (d[2] << 8 | d[3]) + 4 for d in UPLINK + DOWNLINK])
    assert FLOOR_GRANTED[0] == 0x91 and FLOOR_REQUEST[0] == 0x80
    assert FLOOR_GRANTED[12:16] == b"\x01\x02\x00\x1e" and FLOOR_GRANTED[16:24] == b"\x0e\x06\x12\x34\x56\x78\0\0"
    # The type in an Ack has no ack bit.
    assert FLOOR_ACK[16:20] == b"\x0c\x02\x01\x00"
    # "Not queued" is 254.
    assert POSITION_INFO[12:16] == b"\x03\x02\xfe\x00"
    # A length excludes the padding, which is zeros.
    assert FLOOR_REQUEST[16:18] == b"\x06\x0e" and len(FLOOR_REQUEST) == 12 + 4 + 16 + 4


def test_messages_of_the_other_direction_are_refused():
    for data in UPLINK[:3]:
        assert is_refused(data, m.DOWNLINK_TYPES)
    for data in DOWNLINK[:6]:
        assert is_refused(data, m.UPLINK_TYPES)


def test_every_truncation_is_refused():
    for allowed, messages in ((m.UPLINK_TYPES, UPLINK), (m.DOWNLINK_TYPES, DOWNLINK)):
        for data in messages:
            for n in range(len(data)):
                assert is_refused(data[:n], allowed), (data, n)


def test_several_messages_in_a_datagram():
    data = FLOOR_RELEASE + FLOOR_REQUEST
    message = m.Message()
    at = message.read(data, 0, len(data), m.UPLINK_TYPES)
    assert message.type == m.RELEASE
    assert message.read(data, at, len(data), m.UPLINK_TYPES) == len(data) and message.type == m.REQUEST
    w = m.Writer(bytearray(256))
    w.begin(m.IDLE, SSRC)
    w.word(m.SEQUENCE, 3)
    w.end()
    w.begin(m.REVOKE, SSRC)
    w.word(m.CAUSE, 3)
    assert bytes(w.buf[: w.end()]) == FLOOR_IDLE + FLOOR_REVOKE


def test_invalid_headers_are_refused():
    for at, value in ((0, 0x40), (0, 0xA0), (1, 203), (8, ord("m")), (3, 200), (3, 0)):
        bad = bytearray(FLOOR_REQUEST)
        bad[at] = value
        assert is_refused(bad, m.UPLINK_TYPES), (at, value)
    # Types that are not used, and the ack bit of types that are not acknowledged.
    for subtype in (7, 11, 12, 13, 14, 15, 16, 22, 24, 25, 26, 31):
        bad = bytearray(FLOOR_ACK)
        bad[0] = 0x80 | subtype
        assert is_refused(bad, m.UPLINK_TYPES | m.DOWNLINK_TYPES), subtype


def test_invalid_fields_are_refused_and_unknown_ones_skipped():
    repeated = FLOOR_GRANTED[:3] + bytes([FLOOR_GRANTED[3] + 1]) + FLOOR_GRANTED[4:] + FLOOR_GRANTED[12:16]
    assert is_refused(repeated, m.DOWNLINK_TYPES)
    assert is_refused(field(m.REQUEST, m.DURATION, b"\0\x1e"), m.UPLINK_TYPES)  # not a field of this type
    assert is_refused(field(m.GRANTED, m.DURATION, b"\0\x1e"), m.DOWNLINK_TYPES)  # without SSRC
    assert is_refused(field(m.REQUEST, m.PRIORITY, b"\x07"), m.UPLINK_TYPES)
    assert is_refused(field(m.REQUEST, m.PRIORITY, b"\x07\0\0"), m.UPLINK_TYPES)
    assert is_refused(field(m.DENY, m.CAUSE, b"\x01"), m.DOWNLINK_TYPES)
    assert is_refused(field(m.REQUEST, m.USER_ID, bytes(129)), m.UPLINK_TYPES)
    assert is_refused(field(m.REQUEST, m.SSRC, bytes(4)), m.UPLINK_TYPES)
    phrase = decode(field(m.DENY, m.CAUSE, b"\x01\x00not now"), m.DOWNLINK_TYPES)
    assert phrase.cause == 256 and phrase.phrase_n == 7
    # Unknown fields of other releases are skipped, with a length of one or two bytes.
    for number, wide in ((11, False), (15, False), (24, False), (100, False), (192, True), (255, True)):
        assert decode(field(m.REQUEST, number, b"abcde", wide), m.UPLINK_TYPES).type == m.REQUEST


def test_values_and_messages_that_do_not_fit_raise():
    for bad in (
        ("word", m.DURATION, 65536),
        ("word", m.DURATION, -1),
        ("pair", m.PRIORITY, 256),
        ("text", m.USER_ID, bytes(129)),
    ):
        try:
            encode(m.REQUEST, bad)
        except m.FloorError:
            continue
        raise AssertionError(bad)
    try:
        encode(m.REQUEST, ack=True)
    except m.FloorError:
        pass
    else:
        raise AssertionError("a Floor Request with the ack bit was written")
    for n in range(len(FLOOR_REQUEST)):
        w = m.Writer(bytearray(n))
        try:
            w.begin(m.REQUEST, SSRC)
            w.pair(m.PRIORITY, 7)
            w.text(m.USER_ID, b"sip:dev-1@site")
            w.word(m.INDICATOR, m.NORMAL)
        except IndexError:
            continue
        raise AssertionError(n)


def test_damaged_messages_raise_floor_error_only():
    below = seeded(24380)
    message = m.Message()
    for _ in range(3000):
        data = bytearray((UPLINK + DOWNLINK)[below(11)])
        for _ in range(1 + below(4)):
            data[below(len(data))] = below(256)
        at = 0
        try:
            while at < len(data):
                following = message.read(data, at, len(data), m.UPLINK_TYPES | m.DOWNLINK_TYPES)
                assert following > at, "seed 24380"
                at = following
        except m.FloorError:
            pass


def test_a_message_allocates_nothing():
    message, w = m.Message(), m.Writer(bytearray(256))
    user = b"sip:dev-1@site"

    def decode_and_encode():
        message.read(FLOOR_TAKEN, 0, len(FLOOR_TAKEN), m.DOWNLINK_TYPES)
        w.clear()
        w.begin(m.REQUEST, SSRC)
        w.pair(m.PRIORITY, 7)
        w.text(m.USER_ID, user)
        w.word(m.INDICATOR, m.NORMAL)
        w.end()

    assert allocated(decode_and_encode) == 0
