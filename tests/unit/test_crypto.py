"""Cryptography of clips: published vectors, and `cryptography` as the reference for the big-integer code."""

import hashlib
import sys
from binascii import hexlify
from binascii import unhexlify as x

from allocation import allocated
from compat import crypto, p256, p256_field
from compat.ctr import Ctr
from compat.steps import run_to_completion
from patrolink_protocol.aes import encrypter
from seeded_random import seeded

SEED = 7
A_2_5 = x("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721")  # private key of RFC 6979, A.2.5
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
# NIST CAVS 14.1, ECC CDH primitive, P-256: private key, x and y of the peer's public key, shared secret.
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


class Completed:
    """Functions of one implementation, run to completion."""

    def __init__(self, module):
        self._module = module

    def public(self, private):
        return run_to_completion(self._module.derive_public_key(private))

    def agree(self, private, public):
        return run_to_completion(self._module.derive_shared_secret(private, public))

    def sign(self, private, digest):
        return run_to_completion(self._module.sign(private, digest))

    def verify(self, public, digest, signature):
        return run_to_completion(self._module.verify(public, digest, signature))


library, integers = IMPLEMENTATIONS = (
    Completed(crypto),
    Completed(p256),
)  # on MicroPython both are the same implementation


def number(below, maximum=p256.ORDER - 1):
    """Return a random number from 1 to `maximum` as 32 bytes."""
    n = 0
    for _ in range(17):
        n = n << 16 | below(1 << 16)
    return (1 + n % maximum).to_bytes(32, "big")


def is_refused(function, *args):
    try:
        function(*args)
    except ValueError:
        return True
    return False


def test_signatures_match_rfc_6979_a_2_5():
    for message, expected in (SAMPLE, TEST):
        expected = x(expected)
        s = int.from_bytes(expected[32:], "big")
        low = expected[:32] + min(s, p256.ORDER - s).to_bytes(32, "big")
        for implementation in IMPLEMENTATIONS:
            assert implementation.sign(A_2_5, hashlib.sha256(message).digest()) == low


def test_signature_of_rfc_6979_is_verified():
    """tests/integration/device/test_signature_verification.py has many more cases."""
    public = b"\x04" + x(
        "60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6"
        "7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299"
    )
    order = p256.ORDER.to_bytes(32, "big")
    digest, signature = hashlib.sha256(SAMPLE[0]).digest(), x(SAMPLE[1])
    invalid = [signature[:-1], b"", signature[:32] + bytes(32), bytes(32) + signature[32:]]
    invalid += [signature[:32] + order, order + signature[32:]]
    keys = [b"", public[:-1], public + b"\0", b"\x02" + public[1:33], public[:-1] + b"\0", b"\x04" + bytes(64)]
    for implementation in IMPLEMENTATIONS:
        assert implementation.verify(public, digest, signature) is True
        assert implementation.verify(public, hashlib.sha256(TEST[0]).digest(), signature) is False
        for other in invalid:
            assert implementation.verify(public, digest, other) is False, other
        for key in keys:
            assert is_refused(implementation.verify, key, digest, signature), key


def test_public_keys_match_known_values():
    base = "036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    for implementation in IMPLEMENTATIONS:
        one = (1).to_bytes(32, "big")
        assert hexlify(implementation.public(one)).decode() == base
        # -1 times G is G with the opposite sign of y.
        assert implementation.public((p256.ORDER - 1).to_bytes(32, "big")) == b"\x02" + x(base)[1:]
        assert implementation.public(A_2_5) == x("0360FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6")


def test_shared_secrets_match_nist_cavs():
    for private, px, py, shared in CAVS:
        peer = bytes([2 | x(py)[31] & 1]) + x(px)
        for implementation in IMPLEMENTATIONS:
            assert implementation.agree(x(private), peer) == x(shared)


def test_invalid_keys_are_refused():
    base = library.public((1).to_bytes(32, "big"))
    off = next(
        i for i in range(1, 99) if pow((i**3 - 3 * i + p256.B) % p256_field.P, p256_field.P >> 1, p256_field.P) != 1
    )
    publics = [
        b"",
        b"\0",  # infinity
        b"\0" + base[1:],
        b"\x04" + base[1:],
        base[:-1],
        base + b"\0",
        b"\x02" + off.to_bytes(32, "big"),
        b"\x02" + p256_field.P.to_bytes(32, "big"),
        b"\x03" + (p256_field.P + 5).to_bytes(32, "big"),
        b"\x02" + b"\xff" * 32,
    ]
    for implementation in IMPLEMENTATIONS:
        for public in publics:
            assert is_refused(implementation.agree, A_2_5, public), public
        for private in (bytes(32), p256.ORDER.to_bytes(32, "big"), b"\xff" * 32, A_2_5[1:], A_2_5 + b"\0"):
            assert is_refused(implementation.public, private)
            assert is_refused(implementation.agree, private, base)
            assert is_refused(implementation.sign, private, bytes(32))


def test_two_new_keys_agree_on_a_shared_secret():
    a, b = crypto.generate_private_key(), crypto.generate_private_key()
    assert a != b and len(a) == 32
    assert library.agree(a, library.public(b)) == library.agree(b, library.public(a))


def test_limb_arithmetic_agrees_with_the_library():
    """A few cases; tests/integration/clips/test_p256.py runs many on MicroPython."""
    below = seeded(SEED)
    for private in (number(below), (p256.ORDER - 2).to_bytes(32, "big")):
        peer = library.public(number(below))
        digest = hashlib.sha256(private + peer).digest()
        context = "seed %d, key %s, peer %s" % (SEED, private.hex(), peer.hex())
        assert integers.public(private) == library.public(private), context
        assert integers.agree(private, peer) == library.agree(private, peer), context
        assert integers.sign(private, digest) == library.sign(private, digest), context


def test_implementations_agree_on_extreme_digests():
    for digest in (b"\xff" * 32, bytes(32)):
        assert library.sign(A_2_5, digest) == integers.sign(A_2_5, digest)


def test_addition_of_equal_and_opposite_points_and_infinity():
    one = run_to_completion(p256._multiply_base(1))
    x, y, minus = [p256_field.to_montgomery(n) for n in one + (p256_field.P - one[1],)]
    total = p256._PointAccumulator()
    total.double()
    assert total.at_infinity
    total.add(x, y)
    assert run_to_completion(total.affine()) == one
    total.add(x, y)
    assert run_to_completion(total.affine()) == run_to_completion(p256._multiply_base(2))
    total.add(x, minus)
    total.add(x, minus)
    assert total.at_infinity
    total.add(x, minus)
    assert run_to_completion(total.affine()) == (one[0], p256_field.P - one[1])


def numbers(below, count):
    """Return numbers below the prime; edge cases of the prime and of limbs come first."""
    edge = [
        0,
        1,
        2,
        8191,
        8192,
        p256_field.P - 1,
        p256_field.P - 2,
        (1 << 255) - 1,
        (1 << 96) - 1,
        1 << 224,
        p256_field.P >> 1,
    ]
    return edge + [int.from_bytes(number(below), "big") % p256_field.P for _ in range(count)]


def test_limb_arithmetic_agrees_with_big_integers():
    """A thousand operations in sequence, also in place."""
    below = seeded(SEED)
    values = numbers(below, 9)
    limbs = [p256_field.to_montgomery(n) for n in values]
    for i in range(1000):
        a, b, out = below(len(values)), below(len(values)), below(len(values))
        if below(2):
            p256_field.multiply(limbs[a], limbs[b], limbs[out])
            values[out] = values[a] * values[b] % p256_field.P
        else:
            m, n = below(9), below(16) - 8
            p256_field.combine(limbs[a], m, limbs[b], n, limbs[out])
            values[out] = (m * values[a] + n * values[b]) % p256_field.P
            assert p256_field.is_zero(limbs[out]) == (values[out] == 0), "seed %d, operation %d" % (SEED, i)
        assert p256_field.from_montgomery(limbs[out]) == values[out], "seed %d, operation %d" % (SEED, i)
        if not values[out]:
            values[out] = below(1 << 16)
            limbs[out] = p256_field.to_montgomery(values[out])


def test_limbs_stay_within_their_bounds():
    """Results of `multiply` and `combine` are within about twice the prime, so that no sum exceeds 31 bits."""
    below = seeded(SEED + 1)
    largest = bytearray(p256_field._raw(2 * p256_field.P + (p256_field.P >> 6)))  # beyond the range of their results
    smallest = p256_field.to_montgomery(0)
    out = bytearray(80)
    for a in (largest, smallest):
        for b in (largest, smallest):
            p256_field.multiply(a, b, out)
            assert limbs_of(out) < 13 * p256_field.P // 10, "product"
            for _ in range(40):
                m, n = below(9), below(16) - 8
                p256_field.combine(a, m, b, n, out)
                assert 9 * p256_field.P < 10 * limbs_of(out) < 21 * p256_field.P, "m = %d, n = %d" % (m, n)


def limbs_of(a):
    """Return the number in limbs; each limb must be within 13 bits."""
    out = 0
    for i in range(19, -1, -1):
        limb = int.from_bytes(a[4 * i : 4 * i + 4], sys.byteorder)
        assert limb < 8192
        out = out << 13 | limb
    return out


def test_powers_agree_with_big_integers():
    below = seeded(SEED)
    for a in numbers(below, 3)[1:]:
        for e in (0, 1, 2, p256_field.P - 2, int.from_bytes(number(below), "big")):
            power = run_to_completion(p256_field.power(p256_field.to_montgomery(a), e))
            assert p256_field.from_montgomery(power) == pow(a, e, p256_field.P), (SEED, a, e)


def test_limb_arithmetic_allocates_nothing():
    a, b, out = p256_field.to_montgomery(5), p256_field.to_montgomery(7), p256_field.to_montgomery(0)
    assert allocated(p256_field.multiply, a, b, out) == 0
    assert allocated(p256_field.combine, a, 3, b, -2, out) == 0


def ciphers(key):
    return [crypto.aes_ctr(key), Ctr(encrypter(key))]


def test_counter_mode_is_aes_of_the_block_numbers():
    key = bytes(range(32))
    stream = b""
    for i in range(70):
        block = bytearray(16)
        encrypter(key)(i.to_bytes(16, "big"), block)
        stream += bytes(block)
    # AES-256 of FIPS 197, C.3
    block = bytearray(16)
    encrypter(key)(x("00112233445566778899aabbccddeeff"), block)
    assert bytes(block) == x("8ea2b7ca516745bfeafc49904b496089")
    for cipher in ciphers(key):
        buf = bytearray(len(stream))
        cipher.apply(buf)
        assert bytes(buf) == stream


def test_stream_is_independent_of_the_lengths_of_its_parts():
    below = seeded(SEED)
    for cipher in range(2):
        key = number(below)
        text = bytes([below(256) for _ in range(9000)])
        whole = bytearray(text)
        ciphers(key)[cipher].apply(whole)
        parts = bytearray(text)
        view = memoryview(parts)
        implementation = ciphers(key)[cipher]
        at = 0
        while at < len(text):
            n = below(2) and below(40) or below(1500)
            implementation.apply(view[at : at + n])
            at += n
        assert parts == whole, "seed %d" % SEED
        ciphers(key)[0].apply(parts)
        assert bytes(parts) == text, "seed %d" % SEED


def test_implementations_agree_above_16_bits_of_block_number():
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
