"""Events that the hub must answer: each is kept in its own file until an event_state closes it (SPEC.md, EVENT-1).

An event is repeated with growing intervals until its first answer, then once a minute: the hub answers each repetition
with the current state, so a lost answer reaches the wearer after a minute at most. The broker's acknowledgement only
schedules the next repetition. After a power cut all unanswered events are sent again; the receiver drops repeated
frames by their counter. When storage fails, an event is kept in memory and still sent. A closed event whose file
storage refuses to remove is not sent again in this boot; its removal is retried.
"""

import binascii
import struct

import patrolink_enums as enums
from agent.link.removal import Removal
from patrolink_protocol import frame as framing

LIMIT = 32


class _Entry:
    def __init__(self, source, event_id):
        self.source = source  # name of the file, or the frame itself when storage failed
        self.event_id = event_id
        self.due_ms = 0
        self.retry_ms = enums.TIMER_EVENT_REPEAT_MS
        self.is_answered = False


class EventQueue:
    """Event frames that wait for their answer or their end, oldest first. The length counts those without an answer.

    Args:
        files: hal Files; names that begin with "e" belong to the queue.
        now_ms: Function that returns monotonic milliseconds.

    Attributes:
        faults: Failed storage operations since boot.
        acknowledged: Events answered by the hub since boot.
    """

    def __init__(self, files, now_ms):
        self._files = files
        self._removal = Removal(files)
        self._now_ms = now_ms
        self._buf = memoryview(bytearray(260))  # an event has at most 130 bytes, and 4 of CRC
        self._entries = []
        self._sending = None
        self.faults = 0
        self.acknowledged = 0
        self._recover()

    def _recover(self):
        try:
            names = sorted([name for name in self._files.names() if name[0] == "e"])
        except OSError:
            self.faults += 1
            return
        for name in names:
            try:
                if self._read(name):
                    self._entries.append(_Entry(name, self._read_event_id()))
                else:
                    self._remove(name)  # torn by a power cut: `put` never returned
            except OSError:
                self.faults += 1

    def _remove(self, name):
        if not self._removal.remove(name):
            self.faults += 1

    def __len__(self):
        return len([entry for entry in self._entries if not entry.is_answered])

    def _read_event_id(self):
        return struct.unpack_from(">I", self._buf, 1)[0] & framing.COUNTER_MAX

    def _read(self, name):
        """Read a file into the buffer; return the length of its frame, 0 when its CRC does not match."""
        n = self._files.read(name, 0, self._buf)
        if n < framing.HEADER_BYTES + 8 or struct.unpack_from(">I", self._buf, n - 4)[0] != binascii.crc32(
            self._buf[: n - 4]
        ):
            return 0
        return n - 4

    def _load(self, source):
        """Copy a frame into the buffer, from its file or from memory; return its length, 0 when it is damaged."""
        if isinstance(source, str):
            return self._read(source)
        self._buf[: len(source)] = source
        return len(source)

    def put(self, frame, event_id):
        """Store the frame of an event.

        Args:
            frame: The sealed frame, bytes-like.
            event_id: Id of the event, which is the counter of its frame: the body is encrypted.

        Returns:
            False when the queue is full; the caller then uses the outbox.
        """
        if len(self._entries) >= LIMIT:
            return False
        source = "e%010d" % event_id
        n = len(frame)
        buf = memoryview(bytearray(n + 4))  # events are rare, and the buffer of `peek` may be in use
        buf[:n] = frame
        struct.pack_into(">I", buf, n, binascii.crc32(buf[:n]))
        try:
            self._files.append(source, buf)
        except OSError:
            self.faults += 1
            self._removal.remove(source)  # a part of it may have been written
            source = bytes(buf[:n])
        self._entries.append(_Entry(source, event_id))
        return True

    def peek(self):
        """Return a view of the frame of an event that is due, valid until the next call, or None."""
        now_ms = self._now_ms()
        for entry in self._entries:
            if entry.due_ms <= now_ms:
                try:
                    n = self._load(entry.source)
                except OSError:
                    n = 0
                if n:
                    self._sending = entry
                    return self._buf[:n]
                self.faults += 1
                entry.due_ms = now_ms + enums.TIMER_EVENT_REPEAT_MAX_MS
        return None

    def acknowledge(self):
        """Schedule the next repetition of the frame that `peek` returned: the broker has it."""
        entry, self._sending = self._sending, None
        if entry is not None:
            entry.due_ms = self._now_ms() + entry.retry_ms
            if not entry.is_answered:
                entry.retry_ms = min(2 * entry.retry_ms, enums.TIMER_EVENT_REPEAT_MAX_MS)

    def retry_all(self):
        """Make all events due: a session has begun, and answers may have been lost with the previous one."""
        self._removal.retry()
        for entry in self._entries:
            entry.due_ms = 0

    def due_count(self):
        """Return the number of events that are due now."""
        now_ms = self._now_ms()
        return len([entry for entry in self._entries if entry.due_ms <= now_ms])

    def answer(self, event_id):
        """Repeat an event that the hub has answered once a minute from now on; return the number of its frames."""
        answered = [entry for entry in self._entries if entry.event_id == event_id]
        for entry in answered:
            self._count_answer(entry)
            entry.retry_ms = enums.TIMER_EVENT_OPEN_REPEAT_MS
            entry.due_ms = self._now_ms() + enums.TIMER_EVENT_OPEN_REPEAT_MS
        return len(answered)

    def _count_answer(self, entry):
        if not entry.is_answered:
            entry.is_answered = True
            self.acknowledged += 1

    def remove(self, event_id):
        """Remove the frames of an event that the hub has closed; return their number."""
        closed = [entry for entry in self._entries if entry.event_id == event_id]
        for entry in closed:
            self._entries.remove(entry)
            self._count_answer(entry)
            if isinstance(entry.source, str):
                self._remove(entry.source)
        return len(closed)
