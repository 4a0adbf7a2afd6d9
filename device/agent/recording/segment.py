"""Writes a segment file: encrypts and hashes records as they come, and appends whole blocks (CLIP.md, "Segment")."""

import binascii
import hashlib
import struct

import patrolink_enums as enums
from agent.gps.fix import DATE_SUSPECT, HAS_POSITION
from compat import crypto
from patrolink_protocol import clip as clip_format

BLOCK = 4096
_HASH_STEP = 2048  # bytes of a file that are hashed in one step
_DAY_MS = 86400000
_NO_I32 = -0x80000000
_NO_U16 = 0xFFFF
_NO_U32 = 0xFFFFFFFF


class SegmentKeys:
    """The segment keys of one boot. Each chain key is overwritten by the next one.

    Attributes:
        recipient: clip.key_id of the evidence key.
        ephemeral: Public key of this boot, 33 bytes; None until the steps of `load` are done.
        step: Step of the next file.

    Args:
        evidence_key: The site's public evidence key, 33 bytes.
    """

    def __init__(self, evidence_key):
        self._evidence_key = evidence_key
        self.recipient = clip_format.key_id(evidence_key)
        self.ephemeral = self._chain_key = None
        self.step = 0

    def load(self):
        """Steps (compat.steps): agree on the first chain key. The private key is gone afterwards.

        Raises:
            ValueError: At the first step, if the evidence key is not a point of the curve.
        """
        private = crypto.generate_private_key()
        shared = yield from crypto.derive_shared_secret(private, self._evidence_key)
        self.ephemeral = yield from crypto.derive_public_key(private)
        self._chain_key = clip_format.first_chain_key(shared, self.ephemeral, self._evidence_key)

    def take(self):
        """Return (step, AES-256 key) of the next file."""
        step, key = self.step, clip_format.segment_key(self._chain_key)
        self._chain_key = clip_format.next_chain_key(self._chain_key)
        self.step = step + 1
        return step, key


class SegmentWriter:
    """Writes one segment at a time: `begin`, records, `end`. It may begin the next one while storage is still busy.

    Attributes:
        size: Bytes so far, header included.
        frames: Frames counted with `count_frame`.
        writer: hal Writer of the current segment, or of the last one.

    Args:
        block: Bytes given to storage at once. Only `end` writes less.
    """

    def __init__(self, block=BLOCK):
        self._block = memoryview(bytearray(block))
        self._capacity = block
        self._head = bytearray(clip_format.RECORD_HEADER_BYTES + clip_format.TIMESTAMP_BYTES)
        self._n = 0  # bytes in the block
        self._plain = 0  # of those, leading bytes that stay in plain text
        self.writer = None
        self.size = self.frames = 0

    def begin(self, writer, header, key):
        """Begin a segment.

        Args:
            writer: hal Writer of the new file.
            header: patrolink_protocol.clip.SegmentHeader, written in plain text.
            key: AES-256 key of everything after it, 32 bytes.
        """
        self.writer = writer
        self._hash = hashlib.sha256()
        self._ctr = crypto.aes_ctr(key)
        self._block[: clip_format.HEADER_BYTES] = header.pack()
        self._n = self._plain = self.size = clip_format.HEADER_BYTES
        self.frames = 0

    def count_frame(self):
        """Count one frame for the end record."""
        self.frames += 1

    def record(self, kind, time_ms, *parts):
        """Append a record whose body is the concatenation of `parts`."""
        n = clip_format.TIMESTAMP_BYTES
        for part in parts:
            n += len(part)
        struct.pack_into(">II", self._head, 0, kind << 24 | n, time_ms)
        self._put(self._head)
        for part in parts:
            self._put(part)
        self.size += clip_format.RECORD_HEADER_BYTES + n

    def media(self, time_ms, *parts):
        """Append a media record. This is the sink of a container."""
        self.record(clip_format.RECORD_MEDIA, time_ms, *parts)

    def _put(self, data):
        n = len(data)
        if n <= self._capacity - self._n:
            self._block[self._n : self._n + n] = data
            self._n += n
        else:
            data = memoryview(data)
            at = 0
            while at < n:
                part = min(n - at, self._capacity - self._n)
                self._block[self._n : self._n + part] = data[at : at + part]
                self._n += part
                at += part
                if self._n == self._capacity:
                    self._flush()
        if self._n == self._capacity:
            self._flush()

    def _flush(self):
        block = self._block if self._n == self._capacity else self._block[: self._n]
        self._ctr.apply(block[self._plain :] if self._plain else block)
        self._hash.update(block)
        self.writer.write(block)
        self._n = self._plain = 0

    def end(self, time_ms):
        """Write the end record and close the file. Returns the SHA-256 of the file, hexadecimal."""
        self.record(clip_format.RECORD_END, time_ms, struct.pack(">I", self.frames))
        if self._n:
            self._flush()
        self.writer.close()
        return binascii.hexlify(self._hash.digest()).decode()


def fix_record(fix, unix_ms):
    """Return the body of a fix record.

    Args:
        fix: agent.gps.fix.Fix.
        unix_ms: The current time, for a fix without one.
    """
    timed = fix.day != enums.UNKNOWN and fix.ms != enums.UNKNOWN and fix.day >= 0 and not fix.flags & DATE_SUSPECT
    located = fix.flags & HAS_POSITION
    body = struct.pack(
        clip_format.FIX_FORMAT,
        0,
        fix.day * _DAY_MS + fix.ms if timed else unix_ms,
        fix.lat_e7 if located else _NO_I32,
        fix.lon_e7 if located else _NO_I32,
        _NO_I32 if fix.alt_mm == enums.UNKNOWN else fix.alt_mm,
        _NO_U32 if fix.speed_mms == enums.UNKNOWN else fix.speed_mms,
        _NO_U16 if fix.course_cd == enums.UNKNOWN else fix.course_cd,
        _NO_U32 if fix.hacc_mm == enums.UNKNOWN else fix.hacc_mm,
        fix.mode,
    )
    return memoryview(body)[clip_format.TIMESTAMP_BYTES :]


def hash_file(files, name, buf):
    """Steps to (size in bytes, SHA-256 in hexadecimal) of a file on storage. Raises OSError."""
    digest = hashlib.sha256()
    at = 0
    while True:
        n = files.read(name, at, buf)
        if not n:
            return at, binascii.hexlify(digest.digest()).decode()
        digest.update(buf[:n])
        at += n
        if not at & _HASH_STEP - 1:
            yield
