"""Cipher of confidential bodies: the published vector, counter blocks, bounds, allocation."""

from binascii import unhexlify as x

from allocation import allocated
from patrolink_protocol import cipher_kernels
from patrolink_protocol.aes import encrypter
from patrolink_protocol.cipher import FrameCipher
from seeded_random import seeded

SEED = 20261130
KEY = x("2b7e151628aed2a6abf7158809cf4f3c")
HEADER = x("224000beef")
# NIST SP 800-38A, F.5.1: CTR-AES128.Encrypt
FIRST_COUNTER = x("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
PLAIN = x(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
SEALED = x(
    "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"
    "5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee"
)


def key_stream(header, n):
    """Return n bytes of the key stream, block by block."""
    encrypt = encrypter(KEY)
    out = b""
    for i in range((n + 15) // 16):
        block = bytearray(16)
        encrypt(bytes(header[:5]) + bytes(7) + i.to_bytes(4, "big"), block)
        out += bytes(block)
    return out[:n]


def test_counter_mode_matches_nist_sp_800_38a_f_5_1():
    first = int.from_bytes(FIRST_COUNTER, "big")
    stream = bytearray(b"".join([(first + i).to_bytes(16, "big") for i in range(4)]))
    encrypter(KEY)(stream, stream)
    for source, result in ((PLAIN, SEALED), (SEALED, PLAIN)):
        buf = bytearray(b"head" + source + b"tail")
        cipher_kernels.xor_into(buf, 4, 64, stream, 0)
        assert bytes(buf) == b"head" + result + b"tail"


def test_counter_blocks_are_header_zeros_and_number():
    for first in (0, 16, 62, 300):
        blocks = bytearray(b"\xff" * 40)
        cipher_kernels.fill_counter_blocks(blocks, 2, HEADER + b"\xff", first)
        expected = b"".join([HEADER + bytes(7) + i.to_bytes(4, "big") for i in (first, first + 1)])
        assert bytes(blocks) == expected + b"\xff" * 8


def test_bodies_of_every_length_are_combined_with_the_key_stream():
    below = seeded(SEED)
    cipher = FrameCipher(KEY)
    for n in list(range(70)) + [255, 256, 257, 511, 512, 513, 1000, 1003, 1024]:
        header = bytes([below(256) for _ in range(5)])
        body = bytes([below(256) for _ in range(n)])
        buf = bytearray(header + body + b"tag")
        stream = key_stream(header, n)
        for view in (buf, memoryview(buf)):
            cipher.apply(view, view, 5, 5 + n)
        assert bytes(buf) == header + body + b"tag", (SEED, n)
        cipher.apply(buf, buf, 5, 5 + n)
        assert bytes(buf[5 : 5 + n]) == bytes([a ^ b for a, b in zip(body, stream)]), (SEED, n)
        assert bytes(buf[:5]) == header and bytes(buf[5 + n :]) == b"tag"


def test_ranges_outside_of_the_buffer_are_refused():
    cipher = FrameCipher(KEY)
    for header, size, start, end in (
        (HEADER, 20, 5, 21),
        (HEADER, 20, -1, 20),
        (HEADER, 20, 6, 5),
        (HEADER, 1100, 5, 1030),
        (HEADER[:4], 20, 5, 20),
    ):
        buf = bytearray(size)
        try:
            cipher.apply(header, buf, start, end)
        except IndexError:
            assert buf == bytearray(size)
            continue
        raise AssertionError((start, end))


def test_frames_allocate_nothing():
    cipher = FrameCipher(KEY)
    buf = bytearray(1024)
    for n in (0, 1, 142, 256, 257, 1003):
        assert allocated(cipher.apply, buf, buf, 5, 5 + n) == 0, n
