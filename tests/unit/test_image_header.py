"""Headers of images: layout, round trips, limits. Every alteration is refused or changes a field."""

import hashlib
from binascii import hexlify

from patrolink_protocol import image_header
from patrolink_protocol.image_header import ImageHeader, ImageHeaderError
from seeded_random import seeded

SEED = 19
AGENT = ImageHeader(
    image_header.AGENT,
    0x01020304,
    0x0506,
    0x0708,
    b"\x11" * 32,
    bytes(32),
    0x0708,
    b"\x11" * 32,
    "mps2_an385",
    "armv7m",
    "0.1.0",
    b"\x22" * 8,
    b"\x33" * 64,
)


def changed(header, **fields):
    """Return the header with other fields. MicroPython's named tuples have no `_replace`."""
    names = (
        "kind", "rollback", "minimum_platform", "size", "sha256", "base_sha256", "payload_size", "payload_sha256",
        "board", "architecture", "version", "key_id", "signature",
    )  # fmt: skip
    return ImageHeader(*[fields[name] if name in fields else getattr(header, name) for name in names])


DELTA = changed(
    AGENT, kind=image_header.AGENT_DELTA, base_sha256=b"\x44" * 32, payload_size=9, payload_sha256=b"5" * 32
)


def text(below, length):
    return "".join([chr(0x21 + below(0x5E)) for _ in range(1 + below(length))])


def random_bytes(below, length):
    return bytes([below(256) for _ in range(length)])


def random_header(below):
    """Return a valid header."""
    kind = 1 + below(3)
    size, sha256 = 1 + below(1 << 22), random_bytes(below, 32)
    delta = kind == image_header.AGENT_DELTA
    return ImageHeader(
        kind,
        below(1 << 16) << 16 | below(1 << 16),
        below(1 << 16),
        size,
        sha256,
        b"\1" + random_bytes(below, 31) if delta else bytes(32),
        1 + below(1 << 22) if delta else size,
        random_bytes(below, 32) if delta else sha256,
        text(below, 24),
        text(below, 12),
        text(below, 24),
        random_bytes(below, 8),
        random_bytes(below, 32) + b"\x7f" + random_bytes(below, 31),
    )


def refusal(function, argument):
    """Return the reason why an argument is refused, or None."""
    try:
        function(argument)
    except ImageHeaderError as e:
        return str(e)
    return None


def test_layout_is_that_of_the_specification():
    zeros = "00"
    expected = (
        "504c494d" "01" "02" "0000" "04030201" "0605" "0000" "08070000"
        + "11" * 32 + zeros * 32 + "08070000" + "11" * 32
        + hexlify(b"mps2_an385").decode() + zeros * 14
        + hexlify(b"armv7m").decode() + zeros * 6
        + hexlify(b"0.1.0").decode() + zeros * 19
        + "22" * 8 + zeros * 4 + "33" * 64
    )  # fmt: skip
    assert hexlify(image_header.pack(AGENT)).decode() == expected
    assert len(expected) == 2 * image_header.HEADER_BYTES


def test_signature_covers_the_domain_and_the_signed_part():
    data = image_header.pack(AGENT)
    digest = hashlib.sha256(b"patrolink image 1\0" + data[:192]).digest()
    assert image_header.signed_digest(data) == image_header.signed_digest(memoryview(data)) == digest


def test_key_id_is_the_start_of_the_hash_of_the_key():
    public = b"\4" + bytes(64)
    assert image_header.key_id(public) == hashlib.sha256(public).digest()[:8]


def test_random_headers_round_trip():
    below = seeded(SEED)
    for i in range(200):
        header = random_header(below)
        data = image_header.pack(header)
        context = "seed %d, header %d" % (SEED, i)
        assert len(data) == image_header.HEADER_BYTES, context
        assert image_header.unpack(data) == header, context
        assert image_header.unpack(memoryview(data + b"payload")) == header, context


def test_every_altered_byte_is_refused_or_changes_a_field():
    below = seeded(SEED)
    refused = 0
    for header in (AGENT, DELTA, random_header(below), random_header(below)):
        data = image_header.pack(header)
        digest = image_header.signed_digest(data)
        for at in range(image_header.HEADER_BYTES):
            for value in [data[at] ^ 1 << bit for bit in range(8)] + [data[at] ^ (1 + below(255))]:
                altered = bytearray(data)
                altered[at] = value
                context = "seed %d, byte %d is %d" % (SEED, at, value)
                try:
                    result = image_header.unpack(altered)
                except ImageHeaderError:
                    refused += 1
                    continue
                assert result != header, context
                assert image_header.pack(result) == altered, context  # each header has one encoding
                assert (image_header.signed_digest(altered) != digest) == (at < image_header.SIGNED_BYTES), context
    assert refused > 4 * 9 * 12  # magic, format, reserved bytes and padding


def test_random_data_is_refused_or_has_one_encoding():
    below = seeded(SEED + 1)
    for i in range(300):
        data = bytearray(image_header.pack(random_header(below)))
        for _ in range(1 + below(6)):
            data[below(len(data))] = (0, 255, below(256))[below(3)]
        try:
            header = image_header.unpack(data)
        except ImageHeaderError:
            continue
        assert image_header.pack(header) == data, "seed %d, header %d" % (SEED + 1, i)


def test_truncations_are_refused():
    data = image_header.pack(AGENT)
    for n in range(len(data)):
        assert "an image header has 256" in refusal(image_header.unpack, data[:n]), n


def test_fields_out_of_range_are_refused():
    for base, fields, reason in (
        (AGENT, {"kind": 0}, "kind 0"),
        (AGENT, {"kind": 4}, "kind 4"),
        (AGENT, {"rollback": -1}, "rollback"),
        (AGENT, {"rollback": 1 << 32}, "rollback"),
        (AGENT, {"minimum_platform": 1 << 16}, "minimum_platform"),
        (AGENT, {"size": 0, "payload_size": 0}, "size"),
        (AGENT, {"size": (1 << 24) + 1, "payload_size": (1 << 24) + 1}, "size"),
        (AGENT, {"payload_size": 9}, "payload differ"),
        (AGENT, {"payload_sha256": bytes(32)}, "payload differ"),
        (AGENT, {"base_sha256": b"1" * 32}, "only a delta"),
        (DELTA, {"payload_size": 0}, "payload_size"),
        (DELTA, {"payload_size": (1 << 24) + 1}, "payload_size"),
        (AGENT, {"board": ""}, "board"),
        (AGENT, {"board": "b" * 25}, "board"),
        (AGENT, {"board": "a\0b"}, "board"),
        (AGENT, {"architecture": "a" * 13}, "architecture"),
        (AGENT, {"version": "1 2"}, "version"),
        (AGENT, {"version": "1\x1b[2J"}, "version"),
        (AGENT, {"version": "\u00b5"}, "version"),
        (AGENT, {"sha256": b"1"}, "sha256"),
        (AGENT, {"key_id": b"1" * 9}, "key_id"),
        (AGENT, {"signature": b""}, "signature"),
        (AGENT, {"signature": b"1" * 32 + b"\x80" + bytes(31)}, "half the order"),
    ):
        answer = refusal(image_header.pack, changed(base, **fields))
        assert answer and reason in answer, (fields, answer)


def test_delta_without_a_base_is_a_packed_full_image():
    header = changed(DELTA, base_sha256=image_header.NO_BASE)
    assert image_header.unpack(image_header.pack(header)) == header


def test_limits_of_fields_are_accepted():
    for fields in (
        {"rollback": (1 << 32) - 1, "minimum_platform": (1 << 16) - 1},
        {"size": 1 << 24, "payload_size": 1 << 24},
        {"board": "b" * 24, "architecture": "a" * 12, "version": "v" * 24},
        {"key_id": image_header.NO_KEY, "signature": image_header.UNSIGNED},
    ):
        header = changed(AGENT, **fields)
        assert image_header.unpack(image_header.pack(header)) == header, fields
