"""The device's own P-256, on MicroPython, against `cryptography`: seeded keys, and those at the edges."""

import hashlib
import json
import random
import subprocess

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from patrolink.core import resources
from patrolink.core.errors import DeviceError

from tests.conftest import ROOT

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
SEED, KEYS = 20_261_127, 150


@pytest.fixture(scope="module")
def said():
    """A function: what MicroPython says to each (private, other public, digest)."""
    try:
        micropython = resources.interpreter("micropython")
    except DeviceError as e:
        pytest.skip(str(e))

    def ask(asked):
        lines = "".join(json.dumps([it.hex() for it in one]) + "\n" for one in asked)
        command = [*micropython, str(ROOT / "tests/integration/clips/p256_pipe.py")]
        done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, timeout=100)
        return [json.loads(line) for line in done.stdout.splitlines()]

    return ask


def key(number):
    return ec.derive_private_key(number, ec.SECP256R1())


def compressed(private):
    return private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


def signature(private, digest):
    """Return r | s with the lower s, of RFC 6979."""
    r, s = utils.decode_dss_signature(
        private.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256()), deterministic_signing=True))
    )
    return (r.to_bytes(32, "big") + min(s, N - s).to_bytes(32, "big")).hex()


def test_keys_secrets_and_signatures_are_those_of_the_library(said):
    rng = random.Random(SEED)
    # Factors whose sums meet the point itself, its opposite or nothing; runs of ones and zeros; single bits.
    edge = [1, 2, 3, 4, 5, 15, 16, N - 1, N - 2, N - 3, N >> 1, (N >> 1) + 1, (1 << 64) + 1, (1 << 128) - 1, 1 << 255]
    edge += [1 << at for at in range(60, 256, 21)] + [(1 << at) - 1 for at in (64, 96, 192, 224, 255)]
    numbers = edge + [rng.randrange(1, N) for _ in range(KEYS)]
    others = [key(rng.choice(numbers)) for _ in numbers]
    digests = [hashlib.sha256(str(n).encode()).digest() for n in numbers]
    digests[:3] = [bytes(32), b"\xff" * 32, N.to_bytes(32, "big")]
    asked = [(n.to_bytes(32, "big"), compressed(o), d) for n, o, d in zip(numbers, others, digests, strict=True)]
    for n, other, digest, found in zip(numbers, others, digests, said(asked), strict=True):
        mine = key(n)
        shared = mine.exchange(ec.ECDH(), other.public_key())
        assert found == [compressed(mine).hex(), shared.hex(), signature(mine, digest)], f"seed {SEED}, key {n:x}"


def test_agreements_at_the_edges_of_the_curve(said):
    """Others' points with x at either end of the field, with y even and odd, and with long runs of equal bits."""
    rng = random.Random(SEED)
    tried = [*range(40), *(P - 1 - n for n in range(40)), *((1 << at) - 1 for at in range(32, 257, 32)), 2**255]
    points = []
    for x in tried:
        yy = (x**3 - 3 * x + B) % P
        if x < P and pow(pow(yy, (P + 1) // 4, P), 2, P) == yy:
            points += [bytes([sign]) + x.to_bytes(32, "big") for sign in (2, 3)]
    assert len(points) > 60
    privates = [rng.randrange(1, N) for _ in points]
    asked = [(n.to_bytes(32, "big"), point, bytes(32)) for n, point in zip(privates, points, strict=True)]
    for n, point, found in zip(privates, points, said(asked), strict=True):
        other = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        assert found[1] == key(n).exchange(ec.ECDH(), other).hex(), f"seed {SEED}, key {n:x}, point {point.hex()}"


def test_what_is_no_point_is_refused_and_says_why(said):
    one = (1).to_bytes(32, "big")
    off = [x for x in range(99) if pow((x**3 - 3 * x + B) % P, P >> 1, P) == P - 1][:20]
    bad = [bytes([2 + x % 2]) + x.to_bytes(32, "big") for x in off]
    bad += [b"\2" + n.to_bytes(32, "big") for n in (P, P + 5, 2**256 - 1)]
    bad += [b"\0", b"\4" + compressed(key(5))[1:], compressed(key(5))[:-1]]
    for point, found in zip(bad, said([(one, point, bytes(32)) for point in bad]), strict=True):
        assert "P-256 public key" in found[1], point.hex()
