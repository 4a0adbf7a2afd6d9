"""Floor control messages of 3GPP TS 24.380 (Rel-17), clause 8.2: RTCP APP packets named MCPT. MicroPython subset.

    V=2 P=0 subtype(5) | PT 204 | length in words - 1 | SSRC of the sender | "MCPT" | fields: id, length, value, pad

`Writer` and `Message` use buffers of the caller and allocate nothing per message. A datagram may hold several messages:
`Message.read` returns the offset of the next one.
"""

REQUEST, GRANTED, TAKEN, DENY, RELEASE, IDLE, REVOKE = range(7)
QUEUE_POSITION_REQUEST, QUEUE_POSITION_INFO, ACK = 8, 9, 10
MESSAGE_NAMES = ("Request", "Granted", "Taken", "Deny", "Release", "Idle", "Revoke", "", "Queue Position Request")
MESSAGE_NAMES += ("Queue Position Info", "Ack")
ACK_REQUESTED = 0x10  # bit of the subtype

# Fields, clause 8.2.3.
PRIORITY, DURATION, CAUSE, QUEUE_INFO, GRANTED_PARTY, PERMISSION, USER_ID = range(7)
SEQUENCE, QUEUED_USER, SOURCE, MESSAGE_TYPE, INDICATOR, SSRC = 8, 9, 10, 12, 13, 14

# Causes of Deny (8.2.6.2) and of Revoke (8.2.10.2): two separate name spaces.
DENY_TAKEN, DENY_INTERNAL, DENY_ALONE, DENY_RETRY, DENY_RECEIVE_ONLY, DENY_RESOURCES, DENY_QUEUE_FULL = range(1, 8)
REVOKE_ALONE, REVOKE_TOO_LONG = 1, 2
REVOKE_NO_PERMISSION, REVOKE_PREEMPTED = 3, 4
REVOKE_RESOURCES, OTHER = 6, 255

# Bits of the Floor Indicator (8.2.3.15).
NORMAL, BROADCAST, SYSTEM, EMERGENCY, IMMINENT_PERIL, QUEUEING = 0x8000, 0x4000, 0x2000, 0x1000, 0x0800, 0x0400
NOT_QUEUED, POSITION_UNKNOWN = 254, 255  # positions of Queue Info

PARTICIPANT, CONTROLLING = 0, 2  # values of Source

_PT_APP = 204
_HEADER_BYTES = 12
_MAX_TEXT_BYTES = 128
# Subtypes that have the same meaning in all releases.
_KNOWN_TYPES = 1 << REQUEST | 1 << GRANTED | 1 << TAKEN | 1 << DENY | 1 << RELEASE | 1 << IDLE | 1 << REVOKE
_KNOWN_TYPES |= 1 << QUEUE_POSITION_REQUEST | 1 << QUEUE_POSITION_INFO | 1 << ACK
_ACK_TYPES = 1 << GRANTED | 1 << TAKEN | 1 << DENY | 1 << RELEASE | 1 << IDLE
# Messages from a participant to the server, and from the server to a participant; Ack is both.
UPLINK_TYPES = 1 << REQUEST | 1 << RELEASE | 1 << QUEUE_POSITION_REQUEST | 1 << ACK
DOWNLINK_TYPES = 1 << GRANTED | 1 << TAKEN | 1 << DENY | 1 << IDLE | 1 << REVOKE | 1 << QUEUE_POSITION_INFO | 1 << ACK
# Fields that a message may have, by type; any other field of the tables makes the message invalid.
_COMMON = 1 << INDICATOR
_FIELDS = (
    _COMMON | 1 << PRIORITY | 1 << USER_ID,
    _COMMON | 1 << DURATION | 1 << SSRC | 1 << PRIORITY | 1 << USER_ID,
    _COMMON | 1 << GRANTED_PARTY | 1 << PERMISSION | 1 << SEQUENCE | 1 << SSRC | 1 << USER_ID,
    _COMMON | 1 << CAUSE | 1 << USER_ID,
    _COMMON | 1 << USER_ID,
    _COMMON | 1 << SEQUENCE,
    _COMMON | 1 << CAUSE,
    0,
    1 << USER_ID,
    _COMMON | 1 << QUEUE_INFO | 1 << USER_ID | 1 << QUEUED_USER | 1 << SSRC,
    1 << SOURCE | 1 << MESSAGE_TYPE,
)
_REQUIRED = (
    0,
    1 << DURATION | 1 << SSRC,
    1 << GRANTED_PARTY | 1 << PERMISSION | 1 << SEQUENCE,
    1 << CAUSE,
    0,
    1 << SEQUENCE,
    1 << CAUSE,
    0,
    0,
    1 << QUEUE_INFO,
    1 << SOURCE | 1 << MESSAGE_TYPE,
)
# Length of the value of a field by id; 0: text; -2: number and text; -1: skipped, not of this subset.
_LENGTHS = (2, 2, -2, 2, 0, 2, 0, 2, 2, 0, 2, -1, 2, 2, 6)


class FloorError(ValueError):
    """A message is malformed, or not allowed in this direction."""


class Message:
    """One message, parsed from a buffer of the caller. Absent numbers are -1, absent texts have length 0.

    Attributes:
        type: REQUEST to ACK.
        ack: True if the sender requests a Floor Ack.
        ssrc: SSRC of the sender.
        audio_ssrc: SSRC field: of the audio that is granted or taken.
        acked: Type of the message that a Floor Ack acknowledges.
        party_at: Offset of the text of Granted Party in the buffer; party_n is its length. Also user_at, user_n (User
            ID) and phrase_at, phrase_n (text of the cause).
    """

    def __init__(self):
        self._clear()

    def _clear(self):
        self.type = -1
        self.ack = False
        self.ssrc = 0
        self.priority = self.duration = self.cause = self.position = self.queue_priority = self.permission = -1
        self.sequence = self.source = self.acked = self.indicator = -1
        self.audio_ssrc = -1
        self.party_at = self.party_n = self.user_at = self.user_n = self.phrase_at = self.phrase_n = 0
        self._present = 0

    def read(self, buf, at, end, allowed):
        """Parse the message at buf[at:end] and return the offset after it.

        Args:
            buf: Buffer of the datagram.
            at: Offset of the message.
            end: Length of the datagram.
            allowed: UPLINK_TYPES or DOWNLINK_TYPES.

        Raises:
            FloorError: the message is malformed, unknown or of the wrong direction, or a field is duplicated, not
                allowed or missing.
        """
        self._clear()
        if end - at < _HEADER_BYTES:
            raise FloorError("shorter than its header")
        subtype = buf[at] & 0x1F
        kind = subtype & 15
        if buf[at] >> 5 != 4:
            raise FloorError("version or padding")
        if buf[at + 1] != _PT_APP:
            raise FloorError("packet type %d" % buf[at + 1])
        stop = at + 4 * ((buf[at + 2] << 8 | buf[at + 3]) + 1)
        if stop > end or stop - at < _HEADER_BYTES:
            raise FloorError("length")
        if not (buf[at + 8] == 77 and buf[at + 9] == 67 and buf[at + 10] == 80 and buf[at + 11] == 84):
            raise FloorError("not named MCPT")
        if not _KNOWN_TYPES >> kind & 1 or subtype & ACK_REQUESTED and not _ACK_TYPES >> kind & 1:
            raise FloorError("subtype %d" % subtype)
        if not allowed >> kind & 1:
            raise FloorError("Floor %s is not allowed in this direction" % MESSAGE_NAMES[kind])
        self.type = kind
        self.ack = subtype != kind
        self.ssrc = buf[at + 4] << 24 | buf[at + 5] << 16 | buf[at + 6] << 8 | buf[at + 7]
        at += _HEADER_BYTES
        while at < stop:
            at = self._field(buf, at, stop)
        if _REQUIRED[kind] & ~self._present:
            raise FloorError("Floor %s: a mandatory field is missing" % MESSAGE_NAMES[kind])
        return stop

    def _field(self, buf, at, stop):
        field = buf[at]
        wide = 1 if field >= 192 else 0  # two bytes of length
        if at + 2 + wide > stop:
            raise FloorError("a field is truncated")
        n = buf[at + 1] << 8 | buf[at + 2] if wide else buf[at + 1]
        value = at + 2 + wide
        following = value + n + (-(2 + wide + n) & 3)
        if following > stop:
            raise FloorError("a field is truncated")
        length = _LENGTHS[field] if field < len(_LENGTHS) else -1
        if length == -1:
            return following
        if not _FIELDS[self.type] >> field & 1:
            raise FloorError("field %d is not allowed in Floor %s" % (field, MESSAGE_NAMES[self.type]))
        if self._present >> field & 1:
            raise FloorError("field %d is duplicated" % field)
        self._present |= 1 << field
        if n != length and length > 0 or length == -2 and n < 2 or length <= 0 and n > _MAX_TEXT_BYTES:
            raise FloorError("field %d has %d bytes" % (field, n))
        self._set(field, buf, value, n)
        return following

    def _set(self, field, buf, at, n):
        if field == GRANTED_PARTY:
            self.party_at, self.party_n = at, n
        elif field == USER_ID:
            self.user_at, self.user_n = at, n
        elif field == PRIORITY:
            self.priority = buf[at]
        elif field == QUEUE_INFO:
            self.position, self.queue_priority = buf[at], buf[at + 1]
        elif field == MESSAGE_TYPE:
            self.acked = buf[at]
        elif field == SSRC:
            self.audio_ssrc = buf[at] << 24 | buf[at + 1] << 16 | buf[at + 2] << 8 | buf[at + 3]
        elif field != QUEUED_USER:
            word = buf[at] << 8 | buf[at + 1]
            if field == DURATION:
                self.duration = word
            elif field == CAUSE:
                self.cause = word
                self.phrase_at, self.phrase_n = at + 2, n - 2
            elif field == PERMISSION:
                self.permission = word
            elif field == SEQUENCE:
                self.sequence = word
            elif field == SOURCE:
                self.source = word
            elif field == INDICATOR:
                self.indicator = word


class Writer:
    """Writes messages one after the other into a buffer: `begin`, fields, `end`.

    Methods raise IndexError if the buffer is full, and FloorError for a value that does not fit.

    Args:
        buf: Writable buffer.

    Attributes:
        n: Length of the datagram so far.
    """

    def __init__(self, buf):
        self.buf = buf
        self.n = 0
        self._start = 0

    def clear(self):
        """Begin a new datagram."""
        self.n = 0

    def begin(self, kind, ssrc, ack=False):
        """Begin a message of a type from `ssrc`; `ack` requests a Floor Ack."""
        buf = self.buf
        at = self._start = self.n
        if at + _HEADER_BYTES > len(buf):
            raise IndexError("no space for a message")
        if ack and not _ACK_TYPES >> kind & 1:
            raise FloorError("Floor %s cannot request an Ack" % MESSAGE_NAMES[kind])
        buf[at] = 0x80 | kind | (ACK_REQUESTED if ack else 0)
        buf[at + 1] = _PT_APP
        buf[at + 4] = ssrc >> 24 & 255
        buf[at + 5] = ssrc >> 16 & 255
        buf[at + 6] = ssrc >> 8 & 255
        buf[at + 7] = ssrc & 255
        buf[at + 8], buf[at + 9], buf[at + 10], buf[at + 11] = 77, 67, 80, 84
        self.n = at + _HEADER_BYTES

    def _reserve(self, n):
        at = self.n
        self.n = at + 2 + n + (-(2 + n) & 3)
        if self.n > len(self.buf):
            raise IndexError("no space for a field")
        for i in range(at + 2 + n, self.n):
            self.buf[i] = 0
        self.buf[at + 1] = n
        return at

    def word(self, field, value):
        """Add a field of 16 bits: DURATION, CAUSE, PERMISSION, SEQUENCE, SOURCE, INDICATOR."""
        if not 0 <= value <= 0xFFFF:
            raise FloorError("field %d: %d" % (field, value))
        self.pair(field, value >> 8, value & 255)

    def pair(self, field, first, second=0):
        """Add a field of two bytes: PRIORITY, QUEUE_INFO, MESSAGE_TYPE."""
        if not (0 <= first <= 255 and 0 <= second <= 255):
            raise FloorError("field %d: %d, %d" % (field, first, second))
        at = self._reserve(2)
        self.buf[at] = field
        self.buf[at + 2] = first
        self.buf[at + 3] = second

    def text(self, field, value):
        """Add a field of UTF-8 bytes: GRANTED_PARTY, USER_ID."""
        if len(value) > _MAX_TEXT_BYTES:
            raise FloorError("field %d has %d bytes; at most %d are allowed" % (field, len(value), _MAX_TEXT_BYTES))
        at = self._reserve(len(value))
        self.buf[at] = field
        for i in range(len(value)):
            self.buf[at + 2 + i] = value[i]

    def audio_ssrc(self, ssrc):
        """Add the SSRC field: of the audio that is granted or taken."""
        at = self._reserve(6)
        buf = self.buf
        buf[at] = SSRC
        buf[at + 2] = ssrc >> 24 & 255
        buf[at + 3] = ssrc >> 16 & 255
        buf[at + 4] = ssrc >> 8 & 255
        buf[at + 5] = ssrc & 255
        buf[at + 6] = buf[at + 7] = 0

    def end(self):
        """Finish the message and return the length of the datagram so far."""
        words = (self.n - self._start) // 4 - 1
        self.buf[self._start + 2] = words >> 8
        self.buf[self._start + 3] = words & 255
        return self.n
