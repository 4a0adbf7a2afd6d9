"""Events that the hub has to answer: each is kept in a file of its own until its event_state has come.

The broker's acknowledgement only sets the time of the next repeat. After a power cut every one of them goes out again;
the receiver drops repeats by their counter. When storage refuses, an event is kept in memory: it still goes out now.
"""

import binascii
import struct

import patrolink_messages as m
from patrolink_protocol import frame as framing

_FIRST_MS = 10000
_CAP_MS = 600000
LIMIT = 32


class EventQueue:
    """
    files    the contract of link.outbox
    now_ms   function returning monotonic milliseconds
    """

    def __init__(self, files, now_ms):
        self._files = files
        self._now_ms = now_ms
        self._buf = memoryview(bytearray(m.MAX_FRAME + 4))
        self._waiting = []  # [file name, or the frame itself, event_id, due_ms, next wait]
        self._sending = None
        self.faults = 0
        self.acknowledged = 0
        for name in sorted([n for n in files.names() if n[0] == "e"]):
            try:
                if self._read(name):
                    self._waiting.append([name, self._event_id(), 0, _FIRST_MS])
                else:
                    files.remove(name)  # torn by the power: `put` never returned
            except OSError:
                self.faults += 1

    def __len__(self):
        return len(self._waiting)

    def _event_id(self):
        return struct.unpack_from(">I", self._buf, framing.HEADER_BYTES)[0]

    def _read(self, name):
        n = self._files.read(name, 0, self._buf)
        if n < framing.HEADER_BYTES + 8 or struct.unpack_from(">I", self._buf, n - 4)[0] != binascii.crc32(
            self._buf[: n - 4]
        ):
            return 0
        return n - 4

    def _load(self, kept):
        """Bring a frame into the buffer, from its file or from memory; return its length, 0 when it is damaged."""
        if isinstance(kept, str):
            return self._read(kept)
        self._buf[: len(kept)] = kept
        return len(kept)

    def put(self, frame, counter, event_id):
        """Keep an event's frame. False when there is no room for it: the caller has the outbox for that."""
        if len(self._waiting) >= LIMIT:
            return False
        name = "e%010d" % counter
        n = len(frame)
        buf = memoryview(bytearray(n + 4))  # an event is rare; the buffer of `peek` may be in use
        buf[:n] = frame
        struct.pack_into(">I", buf, n, binascii.crc32(buf[:n]))
        try:
            self._files.append(name, buf)
        except OSError:
            self.faults += 1
            name = bytes(buf[:n])
        self._waiting.append([name, event_id, 0, _FIRST_MS])
        return True

    def peek(self):
        """Return the frame of an event that is due, or None."""
        now = self._now_ms()
        for it in self._waiting:
            if it[2] <= now:
                try:
                    n = self._load(it[0])
                except OSError:
                    n = 0
                if n:
                    self._sending = it
                    return self._buf[:n]
                self.faults += 1  # storage fails: look again later
                it[2] = now + _CAP_MS
        return None

    def acknowledge(self):
        """The broker has it; unless the hub answers it goes out again."""
        it, self._sending = self._sending, None
        if it is not None:
            it[2] = self._now_ms() + it[3]
            it[3] = min(2 * it[3], _CAP_MS)

    def retry_all(self):
        """A new session: the hub's answers may have got lost with the old one."""
        for it in self._waiting:
            it[2] = 0

    def due_count(self):
        """How many are due now."""
        now = self._now_ms()
        return len([it for it in self._waiting if it[2] <= now])

    def remove(self, event_id):
        """The hub has it: forget its frames. Return how many there were."""
        found = [it for it in self._waiting if it[1] == event_id]
        for it in found:
            self._waiting.remove(it)
            self.acknowledged += 1
            try:
                if isinstance(it[0], str):
                    self._files.remove(it[0])
            except OSError:
                self.faults += 1
        return len(found)
