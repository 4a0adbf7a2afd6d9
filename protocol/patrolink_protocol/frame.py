"""Frames: header, counter, authentication tag. MicroPython subset. SPEC.md, "Frame".

    byte 0     version (3 bits) | type (5 bits)
    bytes 1-4  flags (4 bits) | counter (28 bits)
    body
    tag        8 bytes of HMAC-SHA256(direction key, len(id) | id | direction | all bytes before the tag)

The direction key is HMAC-SHA256(device key, "patrolink-up" or "patrolink-down"), so that a frame can never be
reflected to where it came from. Nothing here looks at a body before its tag was found right.
"""

import hashlib
import struct

import patrolink_messages as m

UPLINK = 0
DOWNLINK = 1
HEADER = 5
TAG = m.TAG_BYTES
KEY_BYTES = 32
COUNTER_MAX = (1 << m.COUNTER_BITS) - 1
_LABEL = (b"patrolink-up", b"patrolink-down")


class Reject(Exception):
    """A frame was refused. `reason` is the code and `name` the name from the schema's [reject] table."""

    def __init__(self, name, detail=""):
        self.name = name
        self.reason = m.REJECT[name]
        super().__init__(name + (": " + detail if detail else ""))


def _pad(key, byte):
    return bytes([k ^ byte for k in key]) + bytes([byte]) * (64 - len(key))


class Mac:
    """HMAC-SHA256 (RFC 2104) for one key of at most 64 bytes; the two pads are made once."""

    def __init__(self, key):
        self._inner = _pad(key, 0x36)
        self._outer = _pad(key, 0x5C)

    def digest(self, *parts):
        """Return the 32-byte HMAC of the parts, in order."""
        h = hashlib.sha256(self._inner)
        for part in parts:
            h.update(part)
        o = hashlib.sha256(self._outer)
        o.update(h.digest())
        return o.digest()


def check_key(key):
    """Return the key; ValueError unless it has exactly 32 bytes."""
    if len(key) != KEY_BYTES:
        raise ValueError("a device key has 32 bytes, not %d; make one with 32 random bytes" % len(key))
    return key


class Channel:
    """One direction of one device: seals frames, or opens them."""

    def __init__(self, key, device_id, direction=UPLINK):
        if not 1 <= len(device_id) <= 32:
            raise ValueError("a device id has 1 to 32 bytes, not %d" % len(device_id))
        self._mac = Mac(Mac(check_key(key)).digest(_LABEL[direction]))
        self._context = bytes([len(device_id)]) + device_id + bytes([direction])

    def seal_into(self, buf, kind, counter, end):
        """Complete the frame whose body is buf[HEADER:end]: write header and tag, return the frame's length.

        ValueError when the counter is outside 28 bits: the key must be changed before it wraps.
        """
        if not 0 <= counter <= COUNTER_MAX:
            raise ValueError("counter %d is outside 0..%d; give the device a new key" % (counter, COUNTER_MAX))
        buf[0] = (m.VERSION << 5) | kind
        struct.pack_into(">I", buf, 1, counter)
        tag = self._mac.digest(self._context, memoryview(buf)[:end])
        buf[end : end + TAG] = tag[:TAG]
        return end + TAG

    def open_frame(self, data):
        """Return (type, counter, body) of a genuine frame; raise Reject otherwise. `body` is a view of `data`."""
        kind, flags, counter = peek(data)
        view = memoryview(data)
        end = len(data) - TAG
        tag = self._mac.digest(self._context, view[:end])
        if not equal(tag[:TAG], view[end:]):
            raise Reject("tag")
        if flags:
            raise Reject("critical", "flags 0x%x are reserved" % flags)
        return kind, counter, view[HEADER:end]


def equal(a, b):
    """Compare two byte strings in a time that depends on their length only."""
    diff = len(a) ^ len(b)
    for i in range(min(len(a), len(b))):
        diff |= a[i] ^ b[i]
    return diff == 0


def peek(data):
    """Return (type, flags, counter) of an unverified frame; raise Reject for a length or version that cannot be."""
    if not HEADER + TAG <= len(data) <= m.MAX_FRAME:
        raise Reject("length", "%d bytes" % len(data))
    if data[0] >> 5 != m.VERSION:
        raise Reject("version", str(data[0] >> 5))
    word = struct.unpack_from(">I", data, 1)[0]
    return data[0] & 31, word >> m.COUNTER_BITS, word & COUNTER_MAX


def open_frame(data, key, device_id, direction=UPLINK):
    """One-off form of `Channel.open_frame`."""
    return Channel(key, device_id, direction).open_frame(data)
