"""A segment being written: encrypted and hashed as it comes, appended in whole blocks (CLIP.md, "Segment")."""

import binascii
import hashlib
import struct

import patrolink_enums as enums
from agent.gps.fix import DATE_SUSPECT, HAS_POSITION
from compat import crypto
from patrolink_protocol import clip

BLOCK = 4096
_HASHED = 2048  # bytes of a file that are hashed in a step
_DAY_MS = 86400000
_NO_I32 = -0x80000000
_NO_U32 = 0xFFFFFFFF


class SegmentKeys:
    """Keys of one boot's files, once the steps of `load` are done. Each chain key is gone once the next one is there.

    evidence  the evidence key, 33 bytes
    """

    def __init__(self, evidence):
        self._evidence = evidence
        self.recipient = clip.key_id(evidence)
        self.ephemeral = self._chain = None
        self.step = 0

    def load(self):
        """Steps (compat.steps) to them. The private half is gone at their end.

        ValueError at the first of them when the evidence key is no point of the curve.
        """
        private = crypto.private()
        shared = yield from crypto.agree(private, self._evidence)
        self.ephemeral = yield from crypto.public(private)
        self._chain = clip.first_key(shared, self.ephemeral, self._evidence)

    def take(self):
        """Return (step, AES-256 key) of the next file."""
        step, key = self.step, clip.segment_key(self._chain)
        self._chain = clip.next_key(self._chain)
        self.step = step + 1
        return step, key


class SegmentWriter:
    """One at a time: `begin`, records, `end`, and it can begin anew while the writer is still at work.

    block  bytes that go to storage at once; nothing less does before `end`
    size   bytes so far, header and all; frames: media records so far
    """

    def __init__(self, block=BLOCK):
        self._block = memoryview(bytearray(block))
        self._room = block
        self._head = bytearray(clip.RECORD + clip.STAMP)
        self._n = 0  # bytes in the block, of which the first _plain are not to be encrypted
        self._plain = 0
        self.writer = None
        self.size = self.frames = 0

    def begin(self, writer, header, key):
        """Write what `header` says, and encrypt all that comes after it with `key`."""
        self.writer = writer
        self._hash = hashlib.sha256()
        self._ctr = crypto.ctr(key)
        self._block[: clip.HEADER] = header.pack()
        self._n = self._plain = self.size = clip.HEADER
        self.frames = 0

    def record(self, kind, time_ms, *parts):
        """Append a record; its body is made of those byte strings in order."""
        n = clip.STAMP
        for part in parts:
            n += len(part)
        struct.pack_into(">II", self._head, 0, kind << 24 | n, time_ms)
        self._put(self._head)
        for part in parts:
            self._put(part)
        self.size += clip.RECORD + n

    def media(self, time_ms, *parts):
        """Append a media record: the sink of a container."""
        self.record(clip.MEDIA, time_ms, *parts)

    def _put(self, data):
        n = len(data)
        if n <= self._room - self._n:
            self._block[self._n : self._n + n] = data
            self._n += n
        else:
            data = memoryview(data)
            at = 0
            while at < n:
                part = min(n - at, self._room - self._n)
                self._block[self._n : self._n + part] = data[at : at + part]
                self._n += part
                at += part
                if self._n == self._room:
                    self._flush()
        if self._n == self._room:
            self._flush()

    def _flush(self):
        block = self._block if self._n == self._room else self._block[: self._n]
        self._ctr.apply(block[self._plain :] if self._plain else block)
        self._hash.update(block)
        self.writer.write(block)
        self._n = self._plain = 0

    def end(self, time_ms):
        """Write the last record and close the file; return its SHA-256 as it was written, hexadecimal."""
        self.record(clip.END, time_ms, struct.pack(">I", self.frames))
        if self._n:
            self._flush()
        self.writer.close()
        return binascii.hexlify(self._hash.digest()).decode()


def position(fix, unix_ms):
    """Return the body of a fix's record. `fix` is an agent.gps.fix.Fix; `unix_ms`: now, for one that has no time."""
    timed = fix.day != enums.UNKNOWN and fix.ms != enums.UNKNOWN and fix.day >= 0 and not fix.flags & DATE_SUSPECT
    there = fix.flags & HAS_POSITION
    body = struct.pack(
        clip.FIX_BODY,
        0,
        fix.day * _DAY_MS + fix.ms if timed else unix_ms,
        fix.lat_e7 if there else _NO_I32,
        fix.lon_e7 if there else _NO_I32,
        _NO_I32 if fix.alt_mm == enums.UNKNOWN else fix.alt_mm,
        _NO_U32 if fix.speed_mms == enums.UNKNOWN else fix.speed_mms,
        0xFFFF if fix.course_cd == enums.UNKNOWN else fix.course_cd,
        _NO_U32 if fix.hacc_mm == enums.UNKNOWN else fix.hacc_mm,
        fix.mode,
    )
    return memoryview(body)[clip.STAMP :]


def found(files, name, buf):
    """Steps to (bytes, SHA-256 in hexadecimal) of a file as it is on storage."""
    h = hashlib.sha256()
    at = 0
    while True:
        n = files.read(name, at, buf)
        if not n:
            return at, binascii.hexlify(h.digest()).decode()
        h.update(buf[:n])
        at += n
        if not at & _HASHED - 1:
            yield
