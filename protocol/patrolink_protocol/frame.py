"""Frames: header, counter, TLV tail, authentication tag. MicroPython subset. SPEC.md, "Frame".

    byte 0     version (3 bits) | type (5 bits)
    bytes 1-4  flags (4 bits: tail, key phase, two reserved) | counter (28 bits)
    body, and with the tail flag: extensions, then one byte with their length
    tag        8 bytes, 16 in the types of the schema's long_tag

The tag is HMAC-SHA256(direction key, len(id) | id | direction | all bytes before the tag), truncated; the direction key
is HMAC-SHA256(device key, label of the direction | epoch), so that a frame can never be reflected to where it came
from, nor come back in a later epoch. Nothing here looks at a body before its tag was found right.
"""

import struct

import patrolink_messages as m

from .errors import RejectError
from .key_derivation import derive_key, hmac, hmac_pads

UPLINK = 0
DOWNLINK = 1
HEADER_BYTES = 5
KEY_BYTES = 32
COUNTER_MAX = (1 << m.COUNTER_BITS) - 1
_LABEL = (b"patrolink-up", b"patrolink-down")


def check_key(key):
    """Return the key; ValueError unless it has exactly 32 bytes."""
    if len(key) != KEY_BYTES:
        raise ValueError("a device key has 32 bytes, not %d; make one with 32 random bytes" % len(key))
    return key


def tag_bytes(kind):
    """Length of the tag of a message type."""
    return m.LONG_TAG_BYTES if m.LONG_TAG >> kind & 1 else m.TAG_BYTES


class Channel:
    """One direction of one device in one key epoch: seals frames, or opens them.

    The tag is hmac(pads, context, frame).
    """

    def __init__(self, key, device_id, direction=UPLINK, epoch=0):
        if not 1 <= len(device_id) <= 32:
            raise ValueError("a device id has 1 to 32 bytes, not %d" % len(device_id))
        self.pads = hmac_pads(derive_key(check_key(key), _LABEL[direction], epoch))
        self.context = bytes([len(device_id)]) + device_id + bytes([direction])
        self._types = m.DOWN if direction else m.UP
        self.phase = epoch & 1

    def seal_into(self, buf, kind, counter, end, tail=False):
        """Complete the frame whose body is buf[HEADER:end]: write header and tag, return the frame's length.

        `tail` says that the body ends in a TLV tail (`tail.write_into`). ValueError when the counter is outside 28
        bits: the key must be changed before it wraps; IndexError when the tag does not fit `buf`.
        """
        if not 0 <= counter <= COUNTER_MAX:
            raise ValueError("counter %d is outside 0..%d; give the device a new key" % (counter, COUNTER_MAX))
        n = tag_bytes(kind)
        if end + n > len(buf):
            raise IndexError("no room for the tag")
        flags = (m.FLAG_TAIL if tail else 0) | (m.FLAG_PHASE if self.phase else 0)
        buf[0] = (m.VERSION << 5) | kind
        buf[1] = flags << 4 | counter >> 24
        buf[2] = counter >> 16 & 255
        buf[3] = counter >> 8 & 255
        buf[4] = counter & 255
        tag = hmac(self.pads, self.context, memoryview(buf)[:end])
        for i in range(n):
            buf[end + i] = tag[i]
        return end + n

    def open_frame(self, data):
        """Return (type, counter, body, extensions) of a genuine frame; raise RejectError otherwise.

        `body` is a view of `data`; `extensions` a list of (type, critical, value), empty without a tail.
        """
        kind, flags, counter = parse_header(data)
        view = memoryview(data)
        end = len(data) - tag_bytes(kind)
        if not tags_equal(hmac(self.pads, self.context, view[:end]), view[end:]):
            raise RejectError("tag")
        if flags & ~(m.FLAG_TAIL | m.FLAG_PHASE) or (flags & m.FLAG_PHASE != 0) != self.phase:
            raise RejectError("critical", "flags 0x%x" % flags)
        extensions = []
        if flags & m.FLAG_TAIL:
            from . import tail  # rare: a device that never meets one need not carry it

            end = tail.read(view, HEADER_BYTES, end, extensions)
        if not self._types >> kind & 1:
            raise RejectError("type", str(kind))
        return kind, counter, view[HEADER_BYTES:end], extensions


def tags_equal(digest, tag):
    """True when `digest` starts with `tag`; takes a time that depends on the tag's length only."""
    diff = 0
    for i in range(len(tag)):
        diff |= digest[i] ^ tag[i]
    return diff == 0


def parse_header(data):
    """Return (type, flags, counter) of an unverified frame; raise RejectError for a wrong length or version."""
    n = len(data)
    if not HEADER_BYTES + m.TAG_BYTES <= n <= m.MAX_FRAME:
        raise RejectError("length", "%d bytes" % n)
    if data[0] >> 5 != m.VERSION:
        raise RejectError("version", str(data[0] >> 5))
    kind = data[0] & 31
    if n < HEADER_BYTES + tag_bytes(kind):
        raise RejectError("length", "%d bytes" % n)
    word = struct.unpack_from(">I", data, 1)[0]
    return kind, word >> m.COUNTER_BITS, word & COUNTER_MAX
