"""What an update over the air keeps on storage: the job, and its image file as far as that has arrived.

    job       version (u8), state, reason, failed attempts (u8 each), command id, size of the image file (u32 each),
              id of the image, id of its content (8 bytes each), rollback floor of the hub, last install number (u32
              each), version and text (length byte first), CRC-32 of everything before it (u32); big-endian
    image     the bytes of the image file from its beginning

The job is written to a new file that replaces the old one.
"""

import binascii
import hashlib
import struct

from patrolink_protocol import image_header
from patrolink_protocol.native import const

_VERSION = const(1)
_HEAD = ">BBBBII8s8sII"
_HEAD_BYTES = const(36)  # of _HEAD
_JOB_BYTES_MAX = const(256)
_CHUNK_BYTES = const(512)
_CHUNKS_PER_STEP = const(16)


class Job:
    """An installation that the hub has requested.

    Args:
        command_id, image, size, floor, version: Fields of the firmware message.
        install: Last install number when the job began: a slot with a higher one was written for it.

    Attributes:
        state, reason, text: Last firmware_status, 0 before the first one.
        attempts: Downloads or installations that have failed.
        content: Id of the content; zeros before the header of the image is known.
    """

    def __init__(self, command_id, image, size, floor, version, install):
        self.command_id = command_id
        self.image = image
        self.size = size
        self.floor = floor
        self.version = version
        self.install = install
        self.state = self.reason = self.attempts = 0
        self.text = ""
        self.content = bytes(8)

    def pack(self):
        """Return the job as bytes."""
        data = struct.pack(
            _HEAD,
            _VERSION,
            self.state,
            self.reason,
            self.attempts,
            self.command_id,
            self.size,
            self.image,
            self.content,
            self.floor,
            self.install,
        )
        for text in (self.version, self.text):
            encoded = text.encode()
            data += bytes((len(encoded),)) + encoded
        return data + struct.pack(">I", binascii.crc32(data))


def unpack_job(data):
    """Return the Job, or None if the data is damaged or of another version."""
    end = len(data) - 4
    if end < _HEAD_BYTES + 2 or struct.unpack_from(">I", data, end)[0] != binascii.crc32(data[:end]):
        return None
    version, state, reason, attempts, command_id, size, image, content, floor, install = struct.unpack_from(_HEAD, data)
    if version != _VERSION:
        return None
    at = _HEAD_BYTES
    texts = []
    for _ in range(2):
        n = data[at]
        texts.append(str(bytes(data[at + 1 : at + 1 + n]), "utf-8"))
        at += 1 + n
    job = Job(command_id, image, size, floor, texts[0], install)
    job.state, job.reason, job.attempts, job.text, job.content = state, reason, attempts, texts[1], content
    return job


class JobStore:
    """The job and its image file. A power cut leaves the old or the new job, and a beginning of the image file.

    Args:
        files: hal Files of a folder that nothing else uses.

    Attributes:
        received: Bytes of the image file that are there.
    """

    def __init__(self, files):
        self._files = files
        self.received = 0

    def load(self):
        """Return the Job, or None. Raises OSError."""
        names = self._files.names()
        self.received = self._files.size("image") if "image" in names else 0
        if "job" not in names:
            return None
        buffer = memoryview(bytearray(_JOB_BYTES_MAX))
        return unpack_job(buffer[: self._files.read("job", 0, buffer)])

    def save(self, job):
        """Replace the job durably. Raises OSError."""
        if "new" in self._files.names():
            self._files.remove("new")
        self._files.append("new", job.pack())
        self._files.rename("new", "job")

    def append(self, data):
        """Append to the image file. Raises OSError; a part may have been appended then."""
        try:
            self._files.append("image", data)
        finally:
            names = self._files.names()
            self.received = self._files.size("image") if "image" in names else 0

    def discard(self):
        """Remove the image file. Raises OSError."""
        if "image" in self._files.names():
            self._files.remove("image")
        self.received = 0

    def header_data(self):
        """Return the bytes of the image header; fewer if they have not arrived. Raises OSError."""
        if not self.received:
            return b""
        data = bytearray(image_header.HEADER_BYTES)
        return bytes(memoryview(data)[: self._files.read("image", 0, data)])

    def digests(self):
        """Steps to the SHA-256 digests of the image file and of its payload. Raises OSError."""
        whole = hashlib.sha256(self.header_data())
        payload = hashlib.sha256()
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        stream = self.open_payload()
        try:
            chunks = 0
            while True:
                part = buffer[: stream.readinto(buffer)]
                if not part:
                    return whole.digest(), payload.digest()
                whole.update(part)
                payload.update(part)
                chunks += 1
                if chunks % _CHUNKS_PER_STEP == 0:
                    yield
        finally:
            stream.close()

    def open_payload(self):
        """Return the payload as a stream. Raises OSError."""
        stream = self._files.open_stream("image")
        stream.seek(image_header.HEADER_BYTES)
        return stream
