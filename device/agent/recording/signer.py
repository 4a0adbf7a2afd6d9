"""The key that manifests are signed with: made at the first boot, kept in the store."""

import hashlib

from compat import crypto

_RECORD = "signer"
_CHECK = 4  # bytes of SHA-256 behind the key


class Signer:
    """
    store   read(name) -> bytes or None, write(name, bytes), durable when it returns
    public  33 bytes, None until the steps of `load` are done

    One whose record is damaged is made anew: the hub learns of it from the next clip_manifest, under the device's tag.
    """

    def __init__(self, store):
        record = store.read(_RECORD)
        if record is None or len(record) != 32 + _CHECK or record[32:] != _check(record[:32]):
            key = crypto.private()
            record = key + _check(key)
            store.write(_RECORD, record)
        self._key = bytes(record[:32])
        self.public = None

    def load(self):
        """Steps (compat.steps) to its public half."""
        self.public = yield from crypto.public(self._key)

    def sign(self, digest):
        """Steps to the 64 bytes of the signature of a SHA-256."""
        return crypto.sign(self._key, digest)


def _check(key):
    return hashlib.sha256(key).digest()[:_CHECK]
