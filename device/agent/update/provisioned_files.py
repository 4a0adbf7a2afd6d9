"""Files that `patrolink flash --provision` writes into the root of a board: configuration and certificate.

A new content is written beside the file, read back, and renamed over it. No content leaves the board: the host compares
digests, because the configuration holds the key.
"""

import hashlib

from agent.update.serial_receiver import FailedError, RefusedError
from patrolink_protocol.native import const

NAMES = ("ca.pem", "config.json")
_PART_BYTES = const(512)
_SUFFIX = ".new"


class ProvisionedFiles:
    """Writes files, one after the other.

    Args:
        files: Files of the HAL, of the folder of the files.
    """

    def __init__(self, files):
        self._files = files
        self._part = memoryview(bytearray(_PART_BYTES))

    def digest(self, name):
        """Return the SHA-256 of a file, or no bytes if there is none."""
        _check(name)
        return self._digest(name)

    def write(self, name, offset, data):
        """Write a part of the new content of a file. Parts come in order; offset 0 begins anew."""
        _check(name)
        new = name + _SUFFIX
        size = self._size(new)
        if not offset and size is not None:
            self._files.remove(new)
        elif offset and size != offset:
            raise RefusedError("a part of %s at %d, where %s bytes are written" % (name, offset, size))
        self._files.append(new, data)

    def commit(self, name, digest):
        """Replace a file by its new content, which must have this SHA-256."""
        _check(name)
        if self._digest(name + _SUFFIX) != digest:
            raise FailedError("storage does not hold what was written to %s" % name)
        self._files.rename(name + _SUFFIX, name)

    def _size(self, name):
        try:
            return self._files.size(name)
        except OSError:
            return None

    def _digest(self, name):
        size = self._size(name)
        if size is None:
            return b""
        digest = hashlib.sha256()
        offset = 0
        while offset < size:
            n = self._files.read(name, offset, self._part)
            if not n:
                break
            digest.update(self._part[:n])
            offset += n
        return digest.digest()


def _check(name):
    if name not in NAMES:
        raise RefusedError("%s is no file of a configuration" % name)
