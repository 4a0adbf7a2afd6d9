"""The key that signs manifests: created at the first boot, and kept in the store."""

import hashlib

from compat import crypto

_RECORD = "signer"
_CHECK = 4  # bytes of SHA-256 after the key


class Signer:
    """Signs manifests with ECDSA on P-256.

    A damaged record is replaced by a new key. The hub learns the new public key from the next clip_manifest, which the
    device's frame key authenticates.

    Attributes:
        public: Public key, 33 bytes; None until the steps of `load` are done.

    Args:
        store: hal Store: read(name) -> bytes or None, and write(name, bytes), durable when it returns.
    """

    def __init__(self, store):
        record = store.read(_RECORD)
        if record is None or len(record) != 32 + _CHECK or record[32:] != _checksum(record[:32]):
            key = crypto.generate_private_key()
            record = key + _checksum(key)
            store.write(_RECORD, record)
        self._key = bytes(record[:32])
        self.public = None

    def load(self):
        """Steps (compat.steps) to the public key."""
        self.public = yield from crypto.derive_public_key(self._key)

    def sign(self, digest):
        """Steps to the signature of a SHA-256 digest, 64 bytes."""
        return crypto.sign(self._key, digest)


def _checksum(key):
    return hashlib.sha256(key).digest()[:_CHECK]
