"""Floor control messages: what others got wrong is refused or right here (TS 24.380 clause 8.2)."""

from allocation import allocated
from patrolink_protocol import mcptt as m
from seeded_random import seeded

SSRC = 0x87654321


def written(kind, *fields, ack=False):
    """Return a message; fields are (method, id, values...)."""
    w = m.Writer(bytearray(512))
    w.begin(kind, SSRC, ack)
    for name, *values in fields:
        getattr(w, name)(*values)
    return bytes(w.buf[: w.end()])


REQUEST = written(
    m.REQUEST, ("pair", m.PRIORITY, 7), ("text", m.USER_ID, b"sip:dev-1@site"), ("word", m.INDICATOR, m.NORMAL)
)
GRANTED = written(m.GRANTED, ("word", m.DURATION, 30), ("audio_ssrc", 0x12345678), ("pair", m.PRIORITY, 7), ack=True)
TAKEN = written(
    m.TAKEN,
    ("text", m.GRANTED_PARTY, b"sip:dev-2@site"),
    ("word", m.PERMISSION, 1),
    ("word", m.SEQUENCE, 65535),
    ("audio_ssrc", 0x7FFFFFFF),
    ("word", m.INDICATOR, m.EMERGENCY | m.QUEUEING),
)
DENY = written(m.DENY, ("word", m.CAUSE, m.DENY_QUEUE_FULL))
RELEASE = written(m.RELEASE, ("text", m.USER_ID, b"sip:dev-1@site"), ack=True)
IDLE = written(m.IDLE, ("word", m.SEQUENCE, 3))
REVOKE = written(m.REVOKE, ("word", m.CAUSE, m.REVOKE_NO_PERMISSION))
ASK = written(m.QUEUE_POSITION_REQUEST, ("text", m.USER_ID, b"sip:dev-1@site"))
PLACE = written(m.QUEUE_POSITION_INFO, ("pair", m.QUEUE_INFO, m.NOT_QUEUED, 0))
ACK = written(m.ACK, ("word", m.SOURCE, m.PARTICIPANT), ("pair", m.MESSAGE_TYPE, m.GRANTED))
UP, DOWN = (REQUEST, RELEASE, ASK, ACK), (GRANTED, TAKEN, DENY, IDLE, REVOKE, PLACE, ACK)


def read(data, allowed):
    message = m.Message()
    assert message.read(data, 0, len(data), allowed) == len(data)
    return message


def refused(data, allowed):
    try:
        m.Message().read(data, 0, len(data), allowed)
    except m.FloorError:
        return True
    return False


def field(kind, number, value, wide=False):
    """A message with one field written by hand."""
    body = bytes([number]) + len(value).to_bytes(2 if wide else 1, "big") + value
    body += bytes(-len(body) % 4)
    return bytes([0x80 | kind, 204, 0, 2 + len(body) // 4]) + bytes(4) + b"MCPT" + body


def test_messages_come_back():
    it = read(REQUEST, m.UPLINK_TYPES)
    assert (it.type, it.ssrc, it.priority, it.indicator, it.ack) == (m.REQUEST, SSRC, 7, m.NORMAL, False)
    assert REQUEST[it.user_at : it.user_at + it.user_n] == b"sip:dev-1@site"
    it = read(GRANTED, m.DOWNLINK_TYPES)
    assert (it.type, it.ack, it.duration, it.audio_ssrc, it.priority) == (m.GRANTED, True, 30, 0x12345678, 7)
    it = read(TAKEN, m.DOWNLINK_TYPES)
    assert (it.permission, it.sequence, it.audio_ssrc, it.indicator) == (1, 65535, 0x7FFFFFFF, 0x1400)
    assert TAKEN[it.party_at : it.party_at + it.party_n] == b"sip:dev-2@site"
    assert read(DENY, m.DOWNLINK_TYPES).cause == 7 and read(REVOKE, m.DOWNLINK_TYPES).cause == 3
    assert read(IDLE, m.DOWNLINK_TYPES).sequence == 3 and read(ACK, m.UPLINK_TYPES).acked == m.GRANTED
    it = read(PLACE, m.DOWNLINK_TYPES)
    assert it.position == 254 and it.queue_priority == 0


def test_the_tables_of_the_standard():
    # Types count from 0: Taken is 2 and Deny 3.
    assert [d[0] & 15 for d in (REQUEST, GRANTED, TAKEN, DENY, RELEASE, IDLE, REVOKE, ASK, PLACE, ACK)] == [
        0, 1, 2, 3, 4, 5, 6, 8, 9, 10,
    ]  # fmt: skip
    assert all([d[1] == 204 and d[8:12] == b"MCPT" and len(d) == 4 * (d[2] << 8 | d[3]) + 4 for d in UP + DOWN])
    assert GRANTED[0] == 0x91 and REQUEST[0] == 0x80
    assert GRANTED[12:16] == b"\x01\x02\x00\x1e" and GRANTED[16:24] == b"\x0e\x06\x12\x34\x56\x78\0\0"
    # The type in an Ack has no ack bit.
    assert ACK[16:20] == b"\x0c\x02\x01\x00"
    # "Not queued" is 254.
    assert PLACE[12:16] == b"\x03\x02\xfe\x00"
    # A length counts the value alone; the pad is zeros.
    assert REQUEST[16:18] == b"\x06\x0e" and len(REQUEST) == 12 + 4 + 16 + 4


def test_one_direction_only():
    for data in UP[:3]:
        assert refused(data, m.DOWNLINK_TYPES)
    for data in DOWN[:6]:
        assert refused(data, m.UPLINK_TYPES)


def test_every_truncation_is_refused():
    for allowed, messages in ((m.UPLINK_TYPES, UP), (m.DOWNLINK_TYPES, DOWN)):
        for data in messages:
            for n in range(len(data)):
                assert refused(data[:n], allowed), (data, n)


def test_several_messages_in_a_datagram():
    data = RELEASE + REQUEST
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
    assert bytes(w.buf[: w.end()]) == IDLE + REVOKE


def test_headers_that_are_none():
    for at, value in ((0, 0x40), (0, 0xA0), (1, 203), (8, ord("m")), (3, 200), (3, 0)):
        bad = bytearray(REQUEST)
        bad[at] = value
        assert refused(bad, m.UPLINK_TYPES), (at, value)
    # 7 and 11 to 15 mean nothing here, nor does an Ack for what is not answered with one.
    for subtype in (7, 11, 12, 13, 14, 15, 16, 22, 24, 25, 26, 31):
        bad = bytearray(ACK)
        bad[0] = 0x80 | subtype
        assert refused(bad, m.UPLINK_TYPES | m.DOWNLINK_TYPES), subtype


def test_fields_that_are_wrong():
    assert refused(GRANTED[:3] + bytes([GRANTED[3] + 1]) + GRANTED[4:] + GRANTED[12:16], m.DOWNLINK_TYPES)  # twice
    assert refused(field(m.REQUEST, m.DURATION, b"\0\x1e"), m.UPLINK_TYPES)  # does not belong there
    assert refused(field(m.GRANTED, m.DURATION, b"\0\x1e"), m.DOWNLINK_TYPES)  # without SSRC
    assert refused(field(m.REQUEST, m.PRIORITY, b"\x07"), m.UPLINK_TYPES)
    assert refused(field(m.REQUEST, m.PRIORITY, b"\x07\0\0"), m.UPLINK_TYPES)
    assert refused(field(m.DENY, m.CAUSE, b"\x01"), m.DOWNLINK_TYPES)
    assert refused(field(m.REQUEST, m.USER_ID, bytes(129)), m.UPLINK_TYPES)
    assert refused(field(m.REQUEST, m.SSRC, bytes(4)), m.UPLINK_TYPES)
    phrase = read(field(m.DENY, m.CAUSE, b"\x01\x00not now"), m.DOWNLINK_TYPES)
    assert phrase.cause == 256 and phrase.phrase_n == 7
    # What is of other releases is passed over, whatever the width of its length.
    for number, wide in ((11, False), (15, False), (24, False), (100, False), (192, True), (255, True)):
        assert read(field(m.REQUEST, number, b"abcde", wide), m.UPLINK_TYPES).type == m.REQUEST


def test_values_that_do_not_fit_are_not_written():
    for bad in (
        ("word", m.DURATION, 65536),
        ("word", m.DURATION, -1),
        ("pair", m.PRIORITY, 256),
        ("text", m.USER_ID, bytes(129)),
    ):
        try:
            written(m.REQUEST, bad)
        except m.FloorError:
            continue
        raise AssertionError(bad)
    try:
        written(m.REQUEST, ack=True)
    except m.FloorError:
        pass
    else:
        raise AssertionError("Request asked for an Ack")
    for n in range(len(REQUEST)):
        w = m.Writer(bytearray(n))
        try:
            w.begin(m.REQUEST, SSRC)
            w.pair(m.PRIORITY, 7)
            w.text(m.USER_ID, b"sip:dev-1@site")
            w.word(m.INDICATOR, m.NORMAL)
        except IndexError:
            continue
        raise AssertionError(n)


def test_whatever_comes_only_a_floor_error_is_raised():
    below = seeded(24380)
    message = m.Message()
    for _ in range(3000):
        data = bytearray((UP + DOWN)[below(11)])
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

    def both():
        message.read(TAKEN, 0, len(TAKEN), m.DOWNLINK_TYPES)
        w.clear()
        w.begin(m.REQUEST, SSRC)
        w.pair(m.PRIORITY, 7)
        w.text(m.USER_ID, user)
        w.word(m.INDICATOR, m.NORMAL)
        w.end()

    assert allocated(both) == 0
