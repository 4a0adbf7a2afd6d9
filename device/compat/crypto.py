"""Cryptography of clips: cryptolib and big integers on MicroPython, `cryptography` on CPython.

A private key has 32 bytes, a public key 33 bytes (SEC 1, compressed), that of `verify` 65 (uncompressed); functions
raise ValueError for an invalid key. Functions with keys return steps (compat.steps): many on MicroPython, one on
CPython.
"""

import os

PRIVATE_KEY_BYTES = 32
_ORDER = b"\xff\xff\xff\xff\0\0\0\0" + b"\xff" * 8 + b"\xbc\xe6\xfa\xad\xa7\x17\x9e\x84\xf3\xb9\xca\xc2\xfc\x63\x25\x51"


def generate_private_key():
    """Return a new P-256 private key."""
    while True:
        key = os.urandom(PRIVATE_KEY_BYTES)
        if bytes(PRIVATE_KEY_BYTES) < key < _ORDER:
            return key


try:
    from cryptolib import aes as _aes

    class _AesCtr:
        def __init__(self, encrypt):
            self._encrypt = encrypt

        def apply(self, view):
            self._encrypt(view, view)

    def aes_ctr(key):
        """Return AES in counter mode (SP 800-38A) from counter 0.

        Its apply(view) encrypts or decrypts the next bytes of the stream in place, and allocates nothing.
        """
        try:
            return _AesCtr(_aes(key, 6, bytes(16)).encrypt)
        except ValueError:  # the unix port has no counter mode
            from compat.ctr import Ctr
            from patrolink_protocol.aes import encrypter

            return Ctr(encrypter(key))

    # p256 is imported late: its table is on the heap, and a device that records nothing does not need it.

    def derive_public_key(private):
        """Steps to the public key of a private key."""
        from compat import p256

        return p256.derive_public_key(private)

    def derive_shared_secret(private, public):
        """Steps to the shared secret, 32 bytes: x of ECDH (SP 800-56A, 5.7.1.2)."""
        from compat import p256

        return p256.derive_shared_secret(private, public)

    def sign(private, digest):
        """Steps to r | s of ECDSA over a SHA-256 digest, with the nonce of RFC 6979 and the lower s."""
        from compat import p256

        return p256.sign(private, digest)

    def verify(public, digest, signature):
        """Steps to True if r | s is a signature of ECDSA over a SHA-256 digest, otherwise to False.

        The public key has 65 bytes: uncompressed, so that no square root has to be computed.
        """
        from compat import p256

        return p256.verify(public, digest, signature)

except ImportError:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    class _AesCtr:
        def __init__(self, update):
            self._update = update

        def apply(self, view):
            view[:] = self._update(view)

    def aes_ctr(key):
        """Return AES in counter mode (SP 800-38A) from counter 0.

        Its apply(view) encrypts or decrypts the next bytes of the stream in place.
        """
        return _AesCtr(Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update)

    def _single_step(function):
        """Return the function as a generator of one step."""

        def steps(*args):
            return function(*args)
            yield

        return steps

    def _load_private_key(private):
        from cryptography.hazmat.primitives.asymmetric import ec

        if len(private) != PRIVATE_KEY_BYTES:
            raise ValueError("a P-256 private key has 32 bytes, not %d" % len(private))
        return ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP256R1())

    @_single_step
    def derive_public_key(private):
        """Steps to the public key of a private key."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return _load_private_key(private).public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)

    @_single_step
    def derive_shared_secret(private, public):
        """Steps to the shared secret, 32 bytes: x of ECDH (SP 800-56A, 5.7.1.2)."""
        from cryptography.hazmat.primitives.asymmetric import ec

        if len(public) != 33:
            raise ValueError("a P-256 public key has 33 bytes and begins with 2 or 3")
        peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
        return _load_private_key(private).exchange(ec.ECDH(), peer)

    @_single_step
    def sign(private, digest):
        """Steps to r | s of ECDSA over a SHA-256 digest, with the lower s, and the nonce of RFC 6979 if possible."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, utils

        key, prehashed = _load_private_key(private), utils.Prehashed(hashes.SHA256())
        try:
            signature = key.sign(bytes(digest), ec.ECDSA(prehashed, deterministic_signing=True))
        except (TypeError, UnsupportedAlgorithm):  # cryptography < 43, as in Debian 12, or OpenSSL < 3.2
            signature = key.sign(bytes(digest), ec.ECDSA(prehashed))
        r, s = utils.decode_dss_signature(signature)
        s = min(s, int.from_bytes(_ORDER, "big") - s)
        return r.to_bytes(PRIVATE_KEY_BYTES, "big") + s.to_bytes(PRIVATE_KEY_BYTES, "big")

    @_single_step
    def verify(public, digest, signature):
        """Steps to True if r | s is a signature of ECDSA over a SHA-256 digest, otherwise to False.

        The public key has 65 bytes: uncompressed, so that no square root has to be computed.
        """
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec, utils

        if len(public) != 65:
            raise ValueError("an uncompressed P-256 public key has 65 bytes and begins with 4")
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
        if len(signature) != 64:
            return False
        r, s = [int.from_bytes(half, "big") for half in (signature[:32], signature[32:])]
        try:
            key.verify(utils.encode_dss_signature(r, s), bytes(digest), ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        except InvalidSignature:
            return False
        return True
