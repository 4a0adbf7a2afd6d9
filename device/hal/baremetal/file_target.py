"""Target of the serial receiver on a board without slots: a file with the content, and one with its header."""

import hashlib
import os

_BLOCK_BYTES = 4096
_HEADER_SUFFIX = ".header"
_NEW_SUFFIX = ".new"
_SIZE_OFFSET = 16  # in the header of an image: u32; the SHA-256 of the content follows
_DIGEST_BYTES = 8


class FileTarget:
    """Writes a new file beside the present one, and replaces that one at the end.

    Args:
        path: Path of the content.
        check: check(header) raises `agent.update.serial_receiver.RefusedError` if the image does not fit this device.

    Attributes:
        source_bytes: Length of the present content; 0: there is none.
    """

    def __init__(self, path, check):
        self._path = path
        self._check = check
        self._source = None
        self._new = None
        self._header = b""
        self._size = 0
        self._buffer = memoryview(bytearray(_BLOCK_BYTES))
        self._open_source()

    def _open_source(self):
        try:
            self._source = open(self._path, "rb")
            self.source_bytes = self._source.seek(0, 2)
        except OSError:
            self._source = None
            self.source_bytes = 0

    def read_source(self, offset, buffer):
        """Fill a buffer from the present content."""
        self._source.seek(offset)
        self._source.readinto(buffer)

    def begin(self, header):
        """Check the header of an image and prepare to write its content."""
        self._check(header)
        self._header = header
        self._size = int.from_bytes(header[_SIZE_OFFSET : _SIZE_OFFSET + 4], "little")
        if self._new:
            self._new.close()
        try:
            self._new = open(self._path + _NEW_SUFFIX, "r+b")  # of an interrupted transfer
            fits = self._new.seek(0, 2) <= self._size
        except OSError:
            fits = False
        if not fits:
            self._new = open(self._path + _NEW_SUFFIX, "w+b")

    def block_digest(self, index):
        """Return the first 8 bytes of the SHA-256 of the block that is there."""
        return self._digest(index * _BLOCK_BYTES, _BLOCK_BYTES)[:_DIGEST_BYTES]

    def _digest(self, offset, length):
        digest = hashlib.sha256()
        self._new.seek(offset)
        while length:
            n = self._new.readinto(self._buffer[: min(length, _BLOCK_BYTES)])
            if not n:
                break
            digest.update(self._buffer[:n])
            length -= n
        return digest.digest()

    def write_block(self, index, data):
        """Write a block of the content."""
        offset = index * _BLOCK_BYTES
        end = self._new.seek(0, 2)
        while end < offset:  # a block before this one was not needed to be sent
            end += self._new.write(self._buffer[: min(_BLOCK_BYTES, offset - end)])
        self._new.seek(offset)
        self._new.write(data)

    def finish(self):
        """Compare the content with its header, then put both in place. Raises OSError if it differs."""
        if self._digest(0, self._size) != self._header[_SIZE_OFFSET + 4 : _SIZE_OFFSET + 36]:
            raise OSError("SHA-256")
        self._new.close()
        if self._source:
            self._source.close()
        with open(self._path + _HEADER_SUFFIX, "wb") as file:
            file.write(self._header)
        os.rename(self._path + _NEW_SUFFIX, self._path)
        self._open_source()
