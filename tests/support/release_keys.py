"""The release key of the emulated board: its public part is boards/mps2_an385/release.pem. For tests only."""

import hashlib

from cryptography.hazmat.primitives.asymmetric import ec
from patrolink.core import resources


def private_key(name: str = "mps2_an385") -> ec.EllipticCurvePrivateKey:
    """Return the private key that belongs to a name."""
    seed = hashlib.sha256(f"patrolink release key of {name}, for tests only".encode()).digest()
    return ec.derive_private_key(int.from_bytes(seed, "big"), ec.SECP256R1())


TRUST = resources.root() / "boards" / "mps2_an385" / "release.pem"
