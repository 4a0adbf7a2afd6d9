"""P-256 of the device on MicroPython is compared with `cryptography`: seeded keys and edge cases."""

import hashlib
import random

from compat import crypto
from compat.steps import run_to_completion
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.p256_calls import call_on_micropython

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
SEED, KEYS = 20_261_127, 150


def on_micropython(requests):
    """Return [public key, shared secret, signature] for each (private, peer's public, digest), run on MicroPython."""
    return call_on_micropython(
        [
            (("derive_public_key", private), ("derive_shared_secret", private, peer), ("sign", private, digest))
            for private, peer, digest in requests
        ]
    )


def key(number):
    return ec.derive_private_key(number, ec.SECP256R1())


def compressed(private):
    return private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


def signature(private, digest):
    """Return r | s of RFC 6979 with the lower s."""
    r, s = utils.decode_dss_signature(
        private.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256()), deterministic_signing=True))
    )
    return (r.to_bytes(32, "big") + min(s, ORDER - s).to_bytes(32, "big")).hex()


def test_keys_secrets_and_signatures_agree_with_the_library():
    rng = random.Random(SEED)
    # Scalars whose partial sums are the point itself, its negative or infinity; runs of ones and zeros; single bits.
    edge = [
        1,
        2,
        3,
        4,
        5,
        15,
        16,
        ORDER - 1,
        ORDER - 2,
        ORDER - 3,
        ORDER >> 1,
        (ORDER >> 1) + 1,
        (1 << 64) + 1,
        (1 << 128) - 1,
        1 << 255,
    ]
    edge += [1 << at for at in range(60, 256, 21)] + [(1 << at) - 1 for at in (64, 96, 192, 224, 255)]
    numbers = edge + [rng.randrange(1, ORDER) for _ in range(KEYS)]
    peers = [key(rng.choice(numbers)) for _ in numbers]
    digests = [hashlib.sha256(str(n).encode()).digest() for n in numbers]
    digests[:3] = [bytes(32), b"\xff" * 32, ORDER.to_bytes(32, "big")]
    requests = [
        (n.to_bytes(32, "big"), compressed(peer), d) for n, peer, d in zip(numbers, peers, digests, strict=True)
    ]
    for n, peer, digest, result in zip(numbers, peers, digests, on_micropython(requests), strict=True):
        private = key(n)
        shared = private.exchange(ec.ECDH(), peer.public_key())
        assert result == [compressed(private).hex(), shared.hex(), signature(private, digest)], (
            f"seed {SEED}, key {n:x}"
        )


def test_shared_secrets_with_edge_case_points():
    """Public keys with x at both ends of the field, even and odd y, and long runs of equal bits."""
    rng = random.Random(SEED)
    candidates = [*range(40), *(P - 1 - n for n in range(40)), *((1 << at) - 1 for at in range(32, 257, 32)), 2**255]
    points = []
    for x in candidates:
        yy = (x**3 - 3 * x + B) % P
        if x < P and pow(pow(yy, (P + 1) // 4, P), 2, P) == yy:
            points += [bytes([sign]) + x.to_bytes(32, "big") for sign in (2, 3)]
    assert len(points) > 60
    privates = [rng.randrange(1, ORDER) for _ in points]
    requests = [(n.to_bytes(32, "big"), point, bytes(32)) for n, point in zip(privates, points, strict=True)]
    for n, point, result in zip(privates, points, on_micropython(requests), strict=True):
        peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        assert result[1] == key(n).exchange(ec.ECDH(), peer).hex(), f"seed {SEED}, key {n:x}, point {point.hex()}"


def test_invalid_points_are_refused():
    one = (1).to_bytes(32, "big")
    not_on_curve = [x for x in range(99) if pow((x**3 - 3 * x + B) % P, P >> 1, P) == P - 1][:20]
    invalid = [bytes([2 + x % 2]) + x.to_bytes(32, "big") for x in not_on_curve]
    invalid += [b"\2" + n.to_bytes(32, "big") for n in (P, P + 5, 2**256 - 1)]
    invalid += [b"\0", b"\4" + compressed(key(5))[1:], compressed(key(5))[:-1]]
    for point, result in zip(invalid, on_micropython([(one, point, bytes(32)) for point in invalid]), strict=True):
        assert "P-256 public key" in result[1], point.hex()


def test_signature_is_valid_where_the_library_has_no_deterministic_nonce(monkeypatch):
    """As that of Debian 12."""
    monkeypatch.setattr(ec, "ECDSA", lambda algorithm, ecdsa=ec.ECDSA: ecdsa(algorithm))
    private, digest = (19).to_bytes(32, "big"), hashlib.sha256(b"digest").digest()
    signed = run_to_completion(crypto.sign(private, digest))
    public = key(19).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert run_to_completion(crypto.verify(public, digest, signed)) is True
    assert int.from_bytes(signed[32:], "big") <= ORDER // 2
