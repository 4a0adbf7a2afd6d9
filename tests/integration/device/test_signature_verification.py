"""Verification of signatures on MicroPython is compared with `cryptography` and with big-integer arithmetic.

Signatures for the edge cases of the point arithmetic are constructed from u1 and u2: R = u1 G + u2 Q determines r, then
s = r / u2 and the digest e = u1 s are those that a signer would have produced.
"""

import random

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.p256_calls import call_on_micropython

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
SEED, SIGNATURES = 20_261_130, 60
Point = tuple[int, int] | None  # None is infinity
Case = tuple[bytes, bytes, bytes]  # public key, digest, signature


def add(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return b if a is None else a
    if a[0] == b[0]:
        if (a[1] + b[1]) % P == 0:
            return None
        slope = (3 * a[0] ** 2 - 3) * pow(2 * a[1], -1, P)
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(k: int, point: Point) -> Point:
    total: Point = None
    for bit in bin(k % N)[2:]:
        total = add(total, total)
        if bit == "1":
            total = add(total, point)
    return total


def encode(point: tuple[int, int]) -> bytes:
    return b"\4" + point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")


def signature(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def constructed(u1: int, u2: int, q: tuple[int, int]) -> Case:
    """Return the case whose verification computes u1 G + u2 q; that sum must not be infinity."""
    total = add(times(u1, G), times(u2, q))
    assert total is not None
    r = total[0] % N
    s = r * pow(u2, -1, N) % N
    return encode(q), (u1 * s % N).to_bytes(32, "big"), signature(r, s)


def reference(case: Case) -> bool:
    """Return the answer of `cryptography`."""
    public, digest, (r, s) = case[0], case[1], (int.from_bytes(half, "big") for half in (case[2][:32], case[2][32:]))
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
    try:
        key.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    except InvalidSignature:
        return False
    return True


def device(cases: list[Case]) -> list[bool | str]:
    return [answers[0] for answers in call_on_micropython([[("verify", *case)] for case in cases])]


def signed(rng: random.Random) -> Case:
    private = ec.derive_private_key(rng.randrange(1, N), ec.SECP256R1())
    digest = rng.randbytes(32)
    r, s = utils.decode_dss_signature(private.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256()))))
    public = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return public, digest, signature(r, s)


def test_random_signatures_and_their_alterations():
    rng = random.Random(SEED)
    cases = []
    for _ in range(SIGNATURES):
        public, digest, sig = signed(rng)
        cases += [
            (public, digest, sig),
            (public, digest, sig[:32] + (N - int.from_bytes(sig[32:], "big")).to_bytes(32, "big")),
        ]
        for part in (digest, sig):
            altered = bytearray(part)
            altered[rng.randrange(len(part))] ^= 1 << rng.randrange(8)
            cases.append((public, bytes(altered), sig) if part is digest else (public, digest, bytes(altered)))
        cases.append((signed(rng)[0], digest, sig))  # another key
    answers = device(cases)
    assert answers == [reference(case) for case in cases], f"seed {SEED}"
    assert answers.count(True) == 2 * SIGNATURES, f"seed {SEED}"


@pytest.fixture(scope="module")
def q() -> tuple[int, int]:
    point = times(random.Random(SEED).randrange(1, N), G)
    assert point is not None
    return point


def test_edge_cases_of_the_point_arithmetic_are_valid(q):
    minus_g = (G[0], P - G[1])
    scalars = [
        1,
        2,
        3,
        4,
        15,
        16,
        N - 1,
        N - 2,
        N >> 1,
        (N >> 1) + 1,
        1 << 255,
        (1 << 64) - 1,
        1 << 64,
        1 << 192,
        (1 << 128) - 1,
    ]
    cases = [constructed(0, u2, q) for u2 in scalars]  # the digest is zero
    cases += [constructed(u1, u2, q) for u1 in scalars for u2 in (1, N - 1, 1 << 64, 0xAAAA << 200)]
    # Both multiples are of the same or of opposite points, or of small multiples of G: the accumulator meets the added
    # point, its negative, and infinity in between.
    for point in (G, minus_g, times(2, G), times(N - 2, G), times(3, G), times(1 << 64, G), times((1 << 192) + 1, G)):
        for u1 in (0, 1, 2, 3, 4, 5, 1 << 63, N - 1, N - 2, N - 5):
            for u2 in (1, 2, 3, 4, 5, N - 1, N - 3, N - 4):
                if add(times(u1, G), times(u2, point)) is not None:
                    cases.append(constructed(u1, u2, point))
    assert [i for i, answer in enumerate(device(cases)) if answer is not True] == []
    assert all(reference(case) for case in cases)


def test_x_beyond_the_order_is_reduced():
    """R.x from N to P - 1: r is R.x - N, and the candidate r itself belongs to another point."""
    rng = random.Random(SEED)
    cases = []
    x = N
    while len(cases) < 6:
        x += 1
        yy = (x**3 - 3 * x + B) % P
        y = pow(yy, (P + 1) // 4, P)
        if y * y % P != yy:
            continue
        u1, u2 = rng.randrange(1, N), rng.randrange(1, N)
        q = times(pow(u2, -1, N), add((x, y), times(N - u1, G)))
        assert q is not None
        cases.append(constructed(u1, u2, q))
        assert int.from_bytes(cases[-1][2][:32], "big") == x - N
    assert device(cases) == [reference(case) for case in cases] == [True] * len(cases)


def test_sum_at_infinity_is_refused():
    for k in (1, 2, 7, N >> 1):
        q = times(k, G)
        assert q is not None
        cases = []
        for u2 in (1, 2, 5, N - 1):
            u1 = -u2 * k % N
            for r in (1, 5, N - 1):
                s = r * pow(u2, -1, N) % N
                cases.append((encode(q), (u1 * s % N).to_bytes(32, "big"), signature(r, s)))
        assert device(cases) == [reference(case) for case in cases] == [False] * len(cases)


def test_r_and_s_out_of_range_are_refused(q):
    public, digest, sig = constructed(5, 7, q)
    r, s = int.from_bytes(sig[:32], "big"), int.from_bytes(sig[32:], "big")
    edge = (0, N, N + 1, P, 2**256 - 1)
    pairs = [(0, 0), *((value, s) for value in edge), *((r, value) for value in edge), (N - r, s), (s, r), (1, 1)]
    # r + N and s + N are the same numbers modulo the order, where they still fit.
    pairs += [(value + N, s) for value in [r] if value + N < 2**256] + [(r, s + N) for _ in [0] if s + N < 2**256]
    cases = [(public, digest, signature(*pair)) for pair in pairs]
    assert device(cases) == [False] * len(cases)
    lengths = [(public, digest, sig[:-1]), (public, digest, sig + b"\0"), (public, digest, b"")]
    assert device(lengths) == [False] * 3
    assert device([(public, digest, sig)]) == [True]


def test_invalid_public_keys_are_refused(q):
    public, digest, sig = constructed(5, 7, q)
    x, y = q
    not_on_curve = [(x, y ^ 1), (x ^ 1, y), (0, 0), (x, 0), (0, y), (y, x), (x, (y + 1) % P)]
    invalid = [encode(point) for point in not_on_curve]
    # Coordinates beyond the prime would be equal to those of a point on the curve.
    zero_y = pow(B, (P + 1) // 4, P)
    assert device([(encode((0, zero_y)), digest, sig)]) == [False]  # on the curve, but another key
    invalid += [encode((P, zero_y)), encode((P, P - zero_y)), encode((x, 2**256 - 1)), encode((2**256 - 1, y))]
    invalid += [
        b"",
        b"\0",
        b"\4",
        public[:-1],
        public + b"\0",
        b"\2" + public[1:33],
        b"\6" + public[1:],
        b"\5" + public[1:],
    ]
    answers = device([(key, digest, sig) for key in invalid])
    assert [str(answer) for answer in answers if "P-256 public key" not in str(answer)] == []
