"""Manifests: JSON Lines that grow, chained and sealed (CLIP.md, "Manifest"). Read in a stream, never held whole."""

import binascii
import json

from compat.steps import whole
from patrolink_protocol import clip

LONGEST = 1024  # bytes of a line, its line feed included
_UNSAVED = 64  # lines held for storage that refuses
MENDING = "mending"


def dump(*pairs):
    """Return a line, as bytes with its line feed, of keys and values in turn: str, int, bool or list of str."""
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


def lines(files, name):
    """Give (line as bytes, what it says as a dict) of each whole line. Those that are damaged are left out."""
    for _, line, said in _whole(files, name):
        yield line, said


def _whole(files, name):
    """Give (where it ends, line, what it says) of each whole line."""
    buf = memoryview(bytearray(LONGEST))
    at = 0
    while True:
        n = files.read(name, at, buf)
        if not n:
            return
        end = bytes(buf[:n]).find(b"\n") + 1
        line = bytes(buf[: end or n])
        at += len(line)
        try:
            said = json.loads(line) if end else None
        except (ValueError, RuntimeError):  # RuntimeError: nested too deep
            continue
        if isinstance(said, dict):
            yield at, line, said


def file_of(number):
    """Return the name of a clip's manifest."""
    return "%06d.plm" % number


def number_of(name):
    """Return the number of the clip whose manifest has that name, -1 for another file."""
    return number_in(name[:6]) if len(name) == 10 and name[6:] == ".plm" else -1


def number_in(text):
    """Return the number that a text of decimal digits says, -1 for another text."""
    for c in text:
        if not "0" <= c <= "9":
            return -1
    return int(text) if text else -1


def unhex(said, key, n):
    """Return the n bytes that a line says in hexadecimal under a key, None when it does not."""
    try:
        data = binascii.unhexlify(said[key])
    except (KeyError, TypeError, ValueError):
        return None
    return data if len(data) == n else None


def seal_of(chain, sign):
    """Steps to the last line of a manifest, signed by the steps of sign(digest)."""
    signature = yield from sign(clip.signed(chain))
    return dump("chain", binascii.hexlify(chain).decode(), "sig", binascii.hexlify(signature).decode())


def mend(files, name):
    """Steps (compat.steps): cut off what is behind the last whole line. Raises OSError.

    A power cut leaves the old file or the new one.
    """
    last = 0
    for end, _, _ in _whole(files, name):
        last = end
        yield
    if last == files.size(name):
        return
    if MENDING in files.names():
        files.remove(MENDING)
    files.append(MENDING, b"")
    buf = memoryview(bytearray(LONGEST))
    at = 0
    while at < last:
        n = files.read(name, at, buf[: last - at])
        files.append(MENDING, buf[:n])
        at += n
        yield
    files.rename(MENDING, name)


class Manifest:
    """A clip's manifest being written.

    It begins when the clip before has its seal: `start`; what is said until then waits, and so does what storage does
    not take. `chain` is that of all lines so far.
    """

    def __init__(self, files, number):
        self._files = files
        self._name = file_of(number)
        self.number = number
        self.chain = None
        self._said = 0  # lines that are on storage
        self._unsaved = []  # lines since, those from _given on not yet given to the writer
        self._given = 0
        self._writer = None
        self.size = 0  # bytes given to storage
        self.lost = 0  # lines that found no room

    def start(self, head, previous):
        """Begin with this line, after the clip whose chain this is."""
        self.chain = clip.link(previous, head)
        for line in self._unsaved:
            self.chain = clip.link(self.chain, line)
        self._unsaved.insert(0, head)

    def say(self, line, must=False):
        """Append a line."""
        if len(self._unsaved) >= _UNSAVED and not must:
            self.lost += 1
            return
        if self.chain is not None:
            self.chain = clip.link(self.chain, line)
        self._unsaved.append(line)

    def seal(self, sign):
        """Steps to the seal, made with those of sign(digest). Nothing is said from the first of them on."""
        line = yield from seal_of(self.chain, sign)
        self._unsaved.append(line)

    def saved(self):
        """True when all that was said is on storage."""
        return not self._unsaved

    def serve(self):
        """Hand on what waits, see what became of it. Return False when storage refuses: call `again` later."""
        writer = self._writer
        if writer is not None:
            if writer.fault:
                return False
            if not writer.behind:
                self._said += self._given
                del self._unsaved[: self._given]
                self._given = 0
        if self.chain is None or self._given == len(self._unsaved):
            return True
        if writer is None:
            writer = self._writer = self._files.open(self._name)
        for line in self._unsaved[self._given :]:
            writer.write(line)
            self.size += len(line)
        self._given = len(self._unsaved)
        writer.sync()
        return writer.behind or self.serve()

    def again(self):
        """If storage refused a line: see how much of the file is whole, and go on after that. Raises OSError."""
        if self._writer is None or not self._writer.fault:
            return
        there = 0
        if self._name in self._files.names():
            whole(mend(self._files, self._name))
            for _ in lines(self._files, self._name):
                there += 1
        del self._unsaved[: max(0, there - self._said)]
        self._said = there
        self._given = 0
        self._writer.close()
        self._writer = None

    def close(self):
        """Give the file back."""
        if self._writer is not None:
            self._writer.close()
