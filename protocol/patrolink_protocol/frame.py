"""Frames: header, counter, TLV tail, authentication tag (SPEC.md, "Frame"). MicroPython subset.

    byte 0     version (3 bits) | type (5 bits)
    bytes 1-4  flags (4 bits: tail, key phase, encrypted, one reserved) | counter (28 bits)
    body; with the tail flag: extensions, then one byte with their length; encrypted with the encrypted flag
    tag        8 bytes, 16 for the types from LONG_TAG_FROM on

The tag is HMAC-SHA256(direction key, len(id) | id | direction | frame before the tag), truncated. The direction key
depends on direction and epoch, so a frame can neither be reflected to its sender nor replayed in a later epoch.
Nothing in this module decrypts or parses a body before its tag is verified.
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
_LABELS = (b"patrolink-up", b"patrolink-down")
_KNOWN_FLAGS = m.FLAG_TAIL | m.FLAG_PHASE | m.FLAG_ENCRYPTED


def check_key(key):
    """Return the key.

    Raises:
        ValueError: the key does not have exactly 32 bytes.
    """
    if len(key) != KEY_BYTES:
        raise ValueError("a device key has 32 bytes, not %d; generate one from 32 random bytes" % len(key))
    return key


def tag_bytes(kind):
    """Return the length of the tag of a message type."""
    return m.LONG_TAG_BYTES if kind >= m.LONG_TAG_FROM else m.TAG_BYTES


class Channel:
    """Seals or opens frames of one direction of one device in one key epoch.

    Args:
        key: Device key, 32 bytes.
        device_id: 1 to 32 bytes.
        direction: UPLINK or DOWNLINK.
        epoch: Key epoch.

    Attributes:
        pads: HMAC pads of the direction key: the tag is hmac(pads, context, frame before the tag).
        context: Bytes that precede the frame in the tag's input.
        phase: Lowest bit of the epoch.
    """

    def __init__(self, key, device_id, direction=UPLINK, epoch=0):
        if not 1 <= len(device_id) <= 32:
            raise ValueError("a device id has 1 to 32 bytes, not %d" % len(device_id))
        self.pads = hmac_pads(derive_key(check_key(key), _LABELS[direction], epoch))
        self._secret = (key, (b"patrolink-up-cipher", b"patrolink-down-cipher")[direction], epoch)
        self._cipher = None
        self.context = bytes([len(device_id)]) + device_id + bytes([direction])
        self._types = m.DOWN if direction else m.UP
        self.phase = epoch & 1

    @property
    def cipher(self):
        """The FrameCipher, from its first use on: hosts have many channels that never need it."""
        if self._cipher is None:
            from . import cipher  # on hosts it loads a library that most verbs of the tool do not need

            self._cipher = cipher.FrameCipher(derive_key(*self._secret)[:16])
            self._secret = None
        return self._cipher

    def seal_into(self, buf, kind, counter, end, tail=False):
        """Complete a frame in place: write the header, encrypt the body of a confidential type, write the tag.

        Args:
            buf: Buffer with the body at buf[HEADER_BYTES:end].
            kind: Message type.
            counter: Counter of the frame.
            end: Offset after the body.
            tail: True if the body ends with a TLV tail (`tail.write_into`).

        Returns:
            The length of the frame.

        Raises:
            ValueError: the counter does not fit 28 bits; the key must be changed before the counter wraps.
            IndexError: the tag does not fit `buf`.
        """
        if not 0 <= counter <= COUNTER_MAX:
            raise ValueError("counter %d is outside 0..%d; rotate the device key" % (counter, COUNTER_MAX))
        n = tag_bytes(kind)
        if end + n > len(buf):
            raise IndexError("no space for the tag")
        flags = (m.FLAG_TAIL if tail else 0) | (m.FLAG_PHASE if self.phase else 0)
        if m.CONFIDENTIAL >> kind & 1:
            flags |= m.FLAG_ENCRYPTED
        buf[0] = (m.VERSION << 5) | kind
        buf[1] = flags << 4 | counter >> 24
        buf[2] = counter >> 16 & 255
        buf[3] = counter >> 8 & 255
        buf[4] = counter & 255
        if flags & m.FLAG_ENCRYPTED:
            self.cipher.apply(buf, buf, HEADER_BYTES, end)
        tag = hmac(self.pads, self.context, memoryview(buf)[:end])
        for i in range(n):
            buf[end + i] = tag[i]
        return end + n

    def open_frame(self, data):
        """Verify a frame without its counter and return (type, counter, body, extensions); see `read`.

        Raises:
            RejectError: the frame is refused.
        """
        kind, counter = self.authenticate(data)
        body, extensions = self.read(data)
        return kind, counter, body, extensions

    def authenticate(self, data):
        """Check length, version, tag, reserved flag and phase of a frame, and return (type, counter).

        Raises:
            RejectError: the frame is refused.
        """
        kind, flags, counter = parse_header(data)
        view = memoryview(data)
        end = len(data) - tag_bytes(kind)
        if not tags_equal(hmac(self.pads, self.context, view[:end]), view[end:]):
            raise RejectError("tag")
        if flags & ~_KNOWN_FLAGS or (flags & m.FLAG_PHASE != 0) != self.phase:
            raise RejectError("critical", "flags 0x%x" % flags)
        return kind, counter

    def read(self, data):
        """Return (body, extensions) of a frame that `authenticate` has accepted.

        `body` is a view of `data`, or of a copy if it was encrypted: the frame stays as received. `extensions` is a
        list of (type, critical, value), empty without a tail.

        Raises:
            RejectError: the tail is malformed or holds a critical extension, or the type is unknown or not allowed in
                this direction.
        """
        kind = data[0] & 31
        flags = data[1] >> 4
        view = memoryview(data)
        end = len(data) - tag_bytes(kind)
        extensions = []
        if flags & m.FLAG_ENCRYPTED:
            view = memoryview(bytearray(view[:end]))
            self.cipher.apply(data, view, HEADER_BYTES, end)
        if flags & m.FLAG_TAIL:
            from . import tail  # saves heap: a device that never receives a tail does not load the module

            end = tail.read(view, HEADER_BYTES, end, extensions)
        if not self._types >> kind & 1:
            raise RejectError("type", str(kind))
        return view[HEADER_BYTES:end], extensions


def tags_equal(digest, tag):
    """Return True if `digest` starts with `tag`. The time depends only on the length of the tag."""
    diff = 0
    for i in range(len(tag)):
        diff |= digest[i] ^ tag[i]
    return diff == 0


def parse_header(data):
    """Return (type, flags, counter) of an unverified frame.

    Raises:
        RejectError: the length or the version is wrong.
    """
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
