"""Header of an image, a signed file of firmware: its first 256 bytes (IMAGE.md). MicroPython subset."""

import hashlib
import struct
from collections import namedtuple

PLATFORM, AGENT, AGENT_DELTA = 1, 2, 3  # kind
KINDS = {PLATFORM: "platform", AGENT: "agent", AGENT_DELTA: "agent_delta"}
HEADER_BYTES = 256
SIGNED_BYTES = 192  # from the start of the header; the signature is the rest
CONTENT_MAX = 1 << 24  # bytes of content and of payload
PUBLIC_KEY_BYTES = 65  # of a P-256 public key, uncompressed (SEC 1, 2.3.3)
UNSIGNED = bytes(64)  # signature of an image that is not signed yet
NO_KEY = bytes(8)
NO_BASE = bytes(32)

_MAGIC = b"PLIM"
_FORMAT = 1
_DOMAIN = b"patrolink image 1\0"
_LAYOUT = "<4sBBHIHHI32s32sI32s24s12s24s8s4s"
_HALF_ORDER = (
    b"\x7f\xff\xff\xff\x80\0\0\0\x7f"
    + b"\xff" * 7
    + (b"\xde\x73\x7d\x56\xd3\x8b\xcf\x42\x79\xdc\xe5\x61\x7e\x31\x92\xa8")
)
_BOARD_BYTES, _ARCHITECTURE_BYTES, _VERSION_BYTES = 24, 12, 24


class ImageHeaderError(Exception):
    """Data is not an image header that this version can read, or a field is out of range."""


ImageHeader = namedtuple(
    "ImageHeader",
    (
        "kind",  # one of KINDS
        "rollback",  # rollback number, u32: a device refuses an image below its rollback floor
        "minimum_platform",  # u16: lowest platform number that the agent runs on; a platform image: its own number
        "size",  # bytes of the content: what lies in the slot, or the platform binary
        "sha256",  # of the content
        "base_sha256",  # of the content that a delta applies to; NO_BASE for none, and for other kinds
        "payload_size",  # bytes after the header
        "payload_sha256",  # of the bytes after the header
        "board",  # name of the board, up to 24 characters
        "architecture",  # of the machine code, as mpy-cross names it, up to 12 characters
        "version",  # up to 24 characters
        "key_id",  # `key_id` of the release key; NO_KEY if not signed yet
        "signature",  # r | s of ECDSA (FIPS 186-5), s at most half the order of the group
    ),
)


def pack(header):
    """Return the header as HEADER_BYTES bytes.

    Raises:
        ImageHeaderError: a field is out of range.
    """
    _check(header)
    return (
        struct.pack(
            _LAYOUT,
            _MAGIC,
            _FORMAT,
            header.kind,
            0,
            header.rollback,
            header.minimum_platform,
            0,
            header.size,
            header.sha256,
            header.base_sha256,
            header.payload_size,
            header.payload_sha256,
            _padded(header.board, _BOARD_BYTES, "board"),
            _padded(header.architecture, _ARCHITECTURE_BYTES, "architecture"),
            _padded(header.version, _VERSION_BYTES, "version"),
            header.key_id,
            bytes(4),
        )
        + header.signature
    )


def unpack(data):
    """Return the ImageHeader at the start of the data. The signature is not verified.

    Args:
        data: The file or its first HEADER_BYTES bytes; bytes or a view of bytes.

    Raises:
        ImageHeaderError: the data is not a header of this format. Each header has one encoding.
    """
    if len(data) < HEADER_BYTES:
        raise ImageHeaderError("%d bytes, but an image header has %d" % (len(data), HEADER_BYTES))
    (
        magic, format_version, kind, reserved, rollback, minimum_platform, reserved_too, size, sha256, base_sha256,
        payload_size, payload_sha256, board, architecture, version, release_key, padding,
    ) = struct.unpack_from(_LAYOUT, data)  # fmt: skip
    if magic != _MAGIC:
        raise ImageHeaderError("does not begin with PLIM")
    if format_version != _FORMAT:
        raise ImageHeaderError("format %d, but this version reads format %d" % (format_version, _FORMAT))
    if reserved or reserved_too or padding != bytes(4):
        raise ImageHeaderError("a reserved byte is not zero")
    header = ImageHeader(
        kind,
        rollback,
        minimum_platform,
        size,
        sha256,
        base_sha256,
        payload_size,
        payload_sha256,
        _text(board, "board"),
        _text(architecture, "architecture"),
        _text(version, "version"),
        release_key,
        bytes(data[SIGNED_BYTES:HEADER_BYTES]),
    )
    _check(header)
    return header


def signed_digest(data):
    """Return the SHA-256 digest that the signature of a packed header covers."""
    h = hashlib.sha256(_DOMAIN)
    h.update(data[:SIGNED_BYTES])
    return h.digest()


def key_id(public):
    """Return the 8 bytes that identify a release key: PUBLIC_KEY_BYTES bytes, uncompressed."""
    return hashlib.sha256(public).digest()[:8]


def _check(header):
    """Raise ImageHeaderError unless numbers and digests of the header are in range and agree with its kind."""
    if header.kind not in KINDS:
        raise ImageHeaderError("unknown kind %d of image" % header.kind)
    _check_range(header.rollback, 0, (1 << 32) - 1, "rollback")
    _check_range(header.minimum_platform, 0, (1 << 16) - 1, "minimum_platform")
    _check_range(header.size, 1, CONTENT_MAX, "size")
    _check_range(header.payload_size, 1, CONTENT_MAX, "payload_size")
    for name, value, length in (
        ("sha256", header.sha256, 32),
        ("base_sha256", header.base_sha256, 32),
        ("payload_sha256", header.payload_sha256, 32),
        ("key_id", header.key_id, 8),
        ("signature", header.signature, 64),
    ):
        if len(value) != length:
            raise ImageHeaderError("%s has %d bytes, not %d" % (name, len(value), length))
    if header.kind != AGENT_DELTA:
        if header.base_sha256 != NO_BASE:
            raise ImageHeaderError("only a delta has a base")
        if (header.size, header.sha256) != (header.payload_size, header.payload_sha256):
            raise ImageHeaderError("content and payload differ, but only those of a delta may")
    if header.signature[32:] > _HALF_ORDER:  # a signature has one encoding
        raise ImageHeaderError("s of the signature is above half the order")


def _check_range(value, low, high, name):
    if not low <= value <= high:
        raise ImageHeaderError("%s is %d, outside %d to %d" % (name, value, low, high))


def _padded(text, length, name):
    """Return the text as bytes, padded with zeros."""
    data = text.encode()
    if not 0 < len(data) <= length or not _is_plain(data):
        raise ImageHeaderError("%s has to be 1 to %d printable ASCII characters without spaces" % (name, length))
    return data + bytes(length - len(data))


def _text(field, name):
    """Return the text of a padded field."""
    data = field.rstrip(b"\0")
    if not data or not _is_plain(data):
        raise ImageHeaderError("%s is not printable ASCII without spaces" % name)
    return data.decode()


def _is_plain(data):
    for byte in data:
        if not 0x21 <= byte <= 0x7E:
            return False
    return True
