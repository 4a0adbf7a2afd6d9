"""A-law against the tables of ITU-T G.711."""

import hashlib
import struct
from binascii import hexlify

from patrolink_protocol import g711
from patrolink_protocol.native_fallback import load_interpreted

# SHA-256 of the 256 decoded samples, little-endian, from the pcm_alaw decoder of FFmpeg.
DECODED_SHA256 = b"e04788d110e58ff8c70c93b8480190d973e3b67876b6119abbaec766cc75c174"


def decode(code):
    pcm = bytearray(2)
    g711.decode(bytes([code]), 0, 1, pcm, 0)
    return struct.unpack("<h", pcm)[0]


def encode(value):
    alaw = bytearray(1)
    g711.encode(struct.pack("<h", value), 1, alaw, 0)
    return alaw[0]


def test_first_code_of_each_segment_and_extremes_match_the_standard():
    # Table 1a/G.711, in 16 bits.
    assert [decode(code) for code in (0xD5, 0x55, 0xD4, 0xC5, 0xF5, 0xE5, 0x95, 0xAA, 0x2A)] == [
        8, -8, 24, 264, 528, 1056, 2112, 32256, -32256,
    ]  # fmt: skip
    assert (encode(0), encode(32767), encode(-32768)) == (0xD5, 0xAA, 0x2A)
    assert decode(g711.SILENCE) == 8 and encode(0) == g711.SILENCE


def test_all_codes_decode_as_in_ffmpeg():
    pcm = bytearray(512)
    g711.decode(bytes(range(256)), 0, 256, pcm, 0)
    assert hexlify(hashlib.sha256(pcm).digest()) == DECODED_SHA256


def test_each_code_round_trips():
    for code in range(256):
        assert encode(decode(code)) == code


def test_error_is_at_most_half_a_quantising_interval():
    previous = None
    for value in range(-32768, 32768, 7):
        decoded = decode(encode(value))
        interval = max(abs(value), 256) // 16
        assert abs(decoded - value) <= interval // 2 + 8, value
        assert previous is None or decoded >= previous
        previous = decoded


def test_offsets_leave_the_rest_of_the_buffers_unchanged():
    alaw = bytearray(b"\1\2\3\4")
    g711.encode(struct.pack("<2h", 0, 0), 2, alaw, 1)
    assert alaw == b"\1\xd5\xd5\4"
    pcm = bytearray(8)
    g711.decode(alaw, 1, 2, pcm, 1)
    assert struct.unpack("<4h", pcm) == (0, 8, 8, 0)


def test_encode_returns_the_mean_magnitude():
    assert g711.encode(struct.pack("<4h", 1000, -1000, 500, -500), 4, bytearray(4), 0) in (749, 750)


def test_machine_code_equals_interpreted_code():
    try:
        source = load_interpreted(g711.__file__)
    except (AttributeError, OSError):  # frozen into firmware: the source is in the folder of this test
        source = load_interpreted("g711.py")
    linear = struct.pack("<1000h", *range(-32768, 32768, 65)[:1000])
    native, interpreted = bytearray(1003), bytearray(1003)
    for n, offset in ((1000, 0), (7, 3), (1000, 3)):
        assert g711.encode(linear, n, native, offset) == source.encode(linear, n, interpreted, offset)
        assert native == interpreted
    native, interpreted = bytearray(2000), bytearray(2000)
    g711.decode(bytes(range(250)) * 4, 0, 1000, native, 0)
    source.decode(bytes(range(250)) * 4, 0, 1000, interpreted, 0)
    assert native == interpreted
