"""What clips are encrypted and signed with: published vectors, and `cryptography` as the oracle of the big integers."""

import hashlib
import sys
from binascii import hexlify
from binascii import unhexlify as x

from allocated import allocated
from compat import crypto, p256
from compat.aes import encrypter
from compat.ctr import Ctr
from seeded import seeded

SEED = 7
A_2_5 = x("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721")  # the key of RFC 6979 A.2.5
SAMPLE = (
    b"sample",
    "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
    "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8",
)
TEST = (
    b"test",
    "F1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367"
    "019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083",
)
# NIST CAVS 14.1, ECC CDH primitive, P-256: private key, the other's x and y, shared secret.
CAVS = (
    (
        "7d7dc5f71eb29ddaf80d6214632eeae03d9058af1fb6d22ed80badb62bc1a534",
        "700c48f77f56584c5cc632ca65640db91b6bacce3a4df6b42ce7cc838833d287",
        "db71e509e3fd9b060ddb20ba5c51dcc5948d46fbf640dfe0441782cab85fa4ac",
        "46fc62106420ff012e54a434fbdd2d25ccc5852060561e68040dd7778997bd7b",
    ),
    (
        "38f65d6dce47676044d58ce5139582d568f64bb16098d179dbab07741dd5caf5",
        "809f04289c64348c01515eb03d5ce7ac1a8cb9498f5caa50197e58d43a86a7ae",
        "b29d84e811197f25eba8f5194092cb6ff440e26d4421011372461f579271cda3",
        "057d636096cb80b67a8c038c890e887d1adfa4195e9b3ce241c8a778c59cda67",
    ),
)
BOTH = (crypto, p256)  # one and the same on MicroPython


def number(below, most=p256.N - 1):
    """Return 32 random bytes that are a number from 1 to `most`."""
    n = 0
    for _ in range(17):
        n = n << 16 | below(1 << 16)
    return (1 + n % most).to_bytes(32, "big")


def refused(function, *args):
    try:
        function(*args)
    except ValueError:
        return True
    return False


def test_signatures_of_rfc_6979_a_2_5():
    for message, want in (SAMPLE, TEST):
        want = x(want)
        s = int.from_bytes(want[32:], "big")
        low = want[:32] + min(s, p256.N - s).to_bytes(32, "big")
        for it in BOTH:
            assert it.sign(A_2_5, hashlib.sha256(message).digest()) == low


def test_public_keys():
    base = "036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    for it in BOTH:
        one = (1).to_bytes(32, "big")
        assert hexlify(it.public(one)).decode() == base
        # Minus one times G is G with the other sign.
        assert it.public((p256.N - 1).to_bytes(32, "big")) == b"\x02" + x(base)[1:]
        assert it.public(A_2_5) == x("0360FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6")


def test_agreements_of_nist_cavs():
    for private, px, py, shared in CAVS:
        other = bytes([2 | x(py)[31] & 1]) + x(px)
        for it in BOTH:
            assert it.agree(x(private), other) == x(shared)


def test_what_is_no_key_is_refused():
    base = crypto.public((1).to_bytes(32, "big"))
    off = next(i for i in range(1, 99) if p256.P and pow((i**3 - 3 * i + p256.B) % p256.P, p256.P >> 1, p256.P) != 1)
    publics = [
        b"",
        b"\0",  # infinity
        b"\0" + base[1:],
        b"\x04" + base[1:],
        base[:-1],
        base + b"\0",
        b"\x02" + off.to_bytes(32, "big"),
        b"\x02" + p256.P.to_bytes(32, "big"),
        b"\x03" + (p256.P + 5).to_bytes(32, "big"),
        b"\x02" + b"\xff" * 32,
    ]
    for it in BOTH:
        for public in publics:
            assert refused(it.agree, A_2_5, public), public
        for private in (bytes(32), p256.N.to_bytes(32, "big"), b"\xff" * 32, A_2_5[1:], A_2_5 + b"\0"):
            assert refused(it.public, private)
            assert refused(it.agree, private, base)
            assert refused(it.sign, private, bytes(32))


def test_both_sides_agree_and_a_new_key_is_one():
    a, b = crypto.private(), crypto.private()
    assert a != b and len(a) == 32
    assert crypto.agree(a, crypto.public(b)) == crypto.agree(b, crypto.public(a))


def test_the_big_integers_say_what_the_library_says():
    if sys.implementation.name == "micropython":
        return  # there the big integers are all there is; the vectors hold them
    below = seeded(SEED)
    edge = [(n % p256.N).to_bytes(32, "big") for n in (1, 2, 3, 4, 5, 15, 16, -1, -2, -3, 1 << 64, 1 << 128, 1 << 192)]
    for private in edge + [number(below) for _ in range(150)]:
        other = crypto.public(number(below))
        digest = hashlib.sha256(private + other).digest()
        told = "seed %d, key %s, other %s" % (SEED, private.hex(), other.hex())
        assert p256.public(private) == crypto.public(private), told
        assert p256.agree(private, other) == crypto.agree(private, other), told
        assert p256.sign(private, digest) == crypto.sign(private, digest), told
        assert int.from_bytes(p256.sign(private, digest)[32:], "big") <= p256.N // 2, told


def test_a_digest_of_all_ones_and_one_of_zero_are_signed():
    for digest in (b"\xff" * 32, bytes(32), p256.N.to_bytes(32, "big")):
        assert crypto.sign(A_2_5, digest) == p256.sign(A_2_5, digest)


def test_the_sum_of_a_point_and_itself_or_its_opposite():
    one = p256._times_base(1)
    assert p256._affine(*p256._add(one + (1,), *one)) == p256._times_base(2)
    assert p256._add(one + (1,), one[0], p256.P - one[1]) == p256._INFINITY
    assert p256._double(*p256._INFINITY)[2] == 0
    assert p256._add(p256._INFINITY, *one) == one + (1,)


def ciphers(key):
    return [crypto.ctr(key), Ctr(encrypter(key))]


def test_counter_mode_is_aes_of_0_1_2():
    key = bytes(range(32))
    stream = b""
    for i in range(70):
        block = bytearray(16)
        encrypter(key)(i.to_bytes(16, "big"), block)
        stream += bytes(block)
    # AES-256 itself, as FIPS 197 C.3 has it
    block = bytearray(16)
    encrypter(key)(x("00112233445566778899aabbccddeeff"), block)
    assert bytes(block) == x("8ea2b7ca516745bfeafc49904b496089")
    for cipher in ciphers(key):
        buf = bytearray(len(stream))
        cipher.apply(buf)
        assert bytes(buf) == stream


def test_pieces_of_any_length_are_one_stream():
    below = seeded(SEED)
    for cipher in range(2):
        key = number(below)
        text = bytes([below(256) for _ in range(9000)])
        whole = bytearray(text)
        ciphers(key)[cipher].apply(whole)
        parts = bytearray(text)
        view = memoryview(parts)
        it = ciphers(key)[cipher]
        at = 0
        while at < len(text):
            n = below(2) and below(40) or below(1500)
            it.apply(view[at : at + n])
            at += n
        assert parts == whole, "seed %d" % SEED
        ciphers(key)[0].apply(parts)
        assert bytes(parts) == text, "seed %d" % SEED


def test_a_block_number_takes_more_than_two_bytes():
    key = bytes(32)
    a, b = ciphers(key)
    buf = bytearray(8192)
    for _ in range(129):  # to block 66,048
        a.apply(buf)
    for _ in range(129):
        b.apply(buf)
    assert buf == bytearray(8192)


def test_counter_mode_allocates_nothing():
    buf = bytearray(1200)
    for cipher in ciphers(bytes(32)):
        assert allocated(cipher.apply, buf) == 0
