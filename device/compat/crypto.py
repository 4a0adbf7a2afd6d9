"""What clips are encrypted and signed with: of cryptolib and big integers on MicroPython, else of `cryptography`.

ctr(key) is AES in counter mode (SP 800-38A) from counter 0: its apply(view) goes on over bytes in place, as many as
there are. On MicroPython it allocates nothing.

A private key is 32 bytes, a public one 33 (SEC 1, compressed). ValueError for what is no key. What is made with them
comes in steps (compat.steps): many on MicroPython, one elsewhere.
"""

import os

PRIVATE = 32
_ORDER = b"\xff\xff\xff\xff\0\0\0\0" + b"\xff" * 8 + b"\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51"


def private():
    """Return a new private key."""
    while True:
        key = os.urandom(PRIVATE)
        if bytes(PRIVATE) < key < _ORDER:
            return key


try:
    from cryptolib import aes as _aes

    class _Ctr:
        def __init__(self, encrypt):
            self._encrypt = encrypt

        def apply(self, view):
            self._encrypt(view, view)

    def ctr(key):
        try:
            return _Ctr(_aes(key, 6, bytes(16)).encrypt)
        except ValueError:  # the unix port has no counter mode
            from compat.ctr import Ctr

            return Ctr(_aes(key, 1).encrypt)

    def public(private):
        """Steps to the public key of a private one."""
        from compat import p256

        return p256.public(private)

    def agree(private, public):
        """Steps to the shared secret, 32 bytes: x of ECDH (SP 800-56A, 5.7.1.2)."""
        from compat import p256

        return p256.agree(private, public)

    def sign(private, digest):
        """Steps to r | s of ECDSA over a SHA-256 digest, with RFC 6979's nonce and the lower s."""
        from compat import p256

        return p256.sign(private, digest)

except ImportError:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    class _Ctr:
        def __init__(self, update):
            self._update = update

        def apply(self, view):
            view[:] = self._update(view)

    def ctr(key):
        return _Ctr(Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update)

    def _one(function):
        """Return the function as steps: one."""

        def steps(*given):
            return function(*given)
            yield

        return steps

    def _key(private):
        from cryptography.hazmat.primitives.asymmetric import ec

        if len(private) != PRIVATE:
            raise ValueError("a P-256 private key has 32 bytes")
        return ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP256R1())

    @_one
    def public(private):
        """Steps to the public key of a private one."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return _key(private).public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)

    @_one
    def agree(private, public):
        """Steps to the shared secret, 32 bytes: x of ECDH (SP 800-56A, 5.7.1.2)."""
        from cryptography.hazmat.primitives.asymmetric import ec

        if len(public) != 33:
            raise ValueError("a P-256 public key has 33 bytes and begins with 2 or 3")
        return _key(private).exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public))

    @_one
    def sign(private, digest):
        """Steps to r | s of ECDSA over a SHA-256 digest, with RFC 6979's nonce and the lower s."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, utils

        way = ec.ECDSA(utils.Prehashed(hashes.SHA256()), deterministic_signing=True)
        r, s = utils.decode_dss_signature(_key(private).sign(bytes(digest), way))
        s = min(s, int.from_bytes(_ORDER, "big") - s)
        return r.to_bytes(PRIVATE, "big") + s.to_bytes(PRIVATE, "big")
