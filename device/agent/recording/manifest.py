"""Manifests: append-only JSON Lines, hash-chained and sealed (protocol/CLIP.md, "Manifest").

Manifests are read as a stream, one line at a time, and never held in memory as a whole.
"""

import binascii
import json
from collections import namedtuple

from compat.steps import WRITES, run_to_completion
from patrolink_protocol import clip as clip_format

from .clip_files import manifest_name

LINE_MAX = 1024  # bytes of a line, line feed included
REPAIR_FILE = "mending"
_PENDING_MAX = 64  # lines held in memory while storage refuses them

# A complete line of a file: `end` is the offset after it, `raw` its bytes with the line feed, `fields` a dict.
Line = namedtuple("Line", ("end", "raw", "fields"))


def encode_line(*pairs):
    """Return a line as bytes, line feed included.

    Args:
        pairs: Keys and values in turn; a value is a str, int, bool or list of str.
    """
    out = []
    for i in range(0, len(pairs), 2):
        value = pairs[i + 1]
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif isinstance(value, str):
            value = json.dumps(value)
        elif isinstance(value, list):
            value = "[" + ",".join([json.dumps(v) for v in value]) + "]"
        out.append('"%s":%s' % (pairs[i], value))
    return ("{" + ",".join(out) + "}\n").encode()


def read_lines(files, name):
    """Yield the Line of each complete line of a file, and skip damaged lines.

    Raises:
        OSError: The file cannot be read.
    """
    buf = memoryview(bytearray(LINE_MAX))
    at = 0
    while True:
        n = files.read(name, at, buf)
        if not n:
            return
        end = bytes(buf[:n]).find(b"\n") + 1
        raw = bytes(buf[: end or n])
        at += len(raw)
        try:
            fields = json.loads(raw) if end else None
        except (ValueError, RuntimeError):  # RuntimeError: nested too deep
            continue
        if isinstance(fields, dict):
            yield Line(at, raw, fields)


def decode_hex(fields, key, size):
    """Return the `size` bytes that a line holds in hexadecimal under `key`, or None if it does not."""
    try:
        data = binascii.unhexlify(fields[key])
    except (KeyError, TypeError, ValueError):
        return None
    return data if len(data) == size else None


def seal_line(chain, sign):
    """Steps to the last line of a manifest, signed with the steps of sign(digest)."""
    signature = yield from sign(clip_format.signature_digest(chain))
    return encode_line("chain", binascii.hexlify(chain).decode(), "sig", binascii.hexlify(signature).decode())


def remove_partial_line(files, name):
    """Steps (compat.steps): truncate a file after its last complete line.

    A power cut leaves either the old file or the new one.

    Raises:
        OSError: Storage cannot be read or written.
    """
    last = 0
    for line in read_lines(files, name):
        last = line.end
        yield
    if last == files.size(name):
        return
    if REPAIR_FILE in files.names():
        yield WRITES
        files.remove(REPAIR_FILE)
    yield WRITES
    files.append(REPAIR_FILE, b"")
    buf = memoryview(bytearray(LINE_MAX))
    at = 0
    while at < last:
        yield WRITES
        n = files.read(name, at, buf[: last - at])
        files.append(REPAIR_FILE, buf[:n])
        at += n
    yield WRITES
    files.rename(REPAIR_FILE, name)


class ManifestWriter:
    """Writes the manifest of an open clip.

    The file is created by `start`, once the previous clip is sealed. Lines appended before that are held in memory, and
    so are lines that storage refuses.

    Attributes:
        chain: Hash chain over all lines so far, 32 bytes; None before `start`.
        size: Bytes given to storage.
        lost: Lines dropped because too many were pending.

    Args:
        files: hal Files of the clips.
        number: Number of the clip.
    """

    def __init__(self, files, number):
        self._files = files
        self._name = manifest_name(number)
        self.number = number
        self.chain = None
        self._stored = 0  # lines that are on storage
        self._pending = []  # lines after those; the first _submitted of them are with the writer
        self._submitted = 0
        self._writer = None
        self.size = 0
        self.lost = 0

    def start(self, head, previous):
        """Begin the manifest.

        Args:
            head: The first line, bytes.
            previous: Chain of the previous clip, 32 bytes.
        """
        self.chain = clip_format.extend_chain(previous, head)
        for line in self._pending:
            self.chain = clip_format.extend_chain(self.chain, line)
        self._pending.insert(0, head)

    def append(self, line, required=False):
        """Append a line. One that is not `required` is dropped and counted when too many are pending."""
        if len(self._pending) >= _PENDING_MAX and not required:
            self.lost += 1
            return
        if self.chain is not None:
            self.chain = clip_format.extend_chain(self.chain, line)
        self._pending.append(line)

    def seal(self, sign):
        """Steps to the seal, made with the steps of sign(digest). No line may be appended after the first step."""
        line = yield from seal_line(self.chain, sign)
        self._pending.append(line)

    def saved(self):
        """Return whether all lines are on storage."""
        return not self._pending

    def serve(self):
        """Submit pending lines and collect what storage has written.

        Returns:
            False if storage refused a line: call `retry` later.
        """
        writer = self._writer
        if writer is not None:
            if writer.fault:
                return False
            if not writer.behind:
                self._stored += self._submitted
                del self._pending[: self._submitted]
                self._submitted = 0
        if self.chain is None or self._submitted == len(self._pending):
            return True
        if writer is None:
            writer = self._writer = self._files.open(self._name)
        for line in self._pending[self._submitted :]:
            writer.write(line)
            self.size += len(line)
        self._submitted = len(self._pending)
        writer.sync()
        return writer.behind or self.serve()

    def retry(self):
        """After a refused line: find how many lines the file holds, and continue after them.

        Raises:
            OSError: Storage still refuses.
        """
        if self._writer is None or not self._writer.fault:
            return
        stored = 0
        if self._name in self._files.names():
            run_to_completion(remove_partial_line(self._files, self._name))
            for _ in read_lines(self._files, self._name):
                stored += 1
        del self._pending[: max(0, stored - self._stored)]
        self._stored = stored
        self._submitted = 0
        self._writer.close()
        self._writer = None

    def close(self):
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
