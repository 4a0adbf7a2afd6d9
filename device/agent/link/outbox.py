"""Frames waiting for the broker, in one ring of memory taken at boot: no outage, however long, needs more.

A frame leaves by `done` once the broker acknowledged it. When the ring is full the oldest waiting frame goes, and is
counted; the frame being sent is out of the ring and never the one.
"""

_SKIP = 0xFFFF  # in place of a length: the next frame is at the ring's start


class Outbox:
    """`size` bytes of ring, `longest` bytes for the one frame being sent."""

    def __init__(self, size=4096, longest=1024):
        self._ring = bytearray(size)
        self._view = memoryview(self._ring)
        self._sending = bytearray(longest)
        self._sending_view = memoryview(self._sending)
        self._sending_n = 0
        self._count = 0
        self._head = 0
        self._tail = 0
        self._wrapped = False
        self.dropped = 0

    def __len__(self):
        return self._count + (1 if self._sending_n else 0)

    def put(self, frame):
        """Append a frame (bytes-like); make room by dropping the oldest ones, or drop it when it can never fit."""
        n = len(frame)
        if n + 2 > len(self._ring) or n > len(self._sending):
            self.dropped += 1
            return
        while not self._room(n + 2):
            self._remove()
            self.dropped += 1
        at = self._tail
        self._ring[at] = n >> 8
        self._ring[at + 1] = n & 255
        self._view[at + 2 : at + 2 + n] = frame
        self._tail = at + 2 + n
        self._count += 1

    def _room(self, need):
        """Make `_tail` point at `need` contiguous free bytes; False when there are none."""
        if not self._count:
            self._head = self._tail = 0
            self._wrapped = False
        if self._wrapped:
            return need <= self._head - self._tail
        if need <= len(self._ring) - self._tail:
            return True
        if need > self._head:
            return False
        if len(self._ring) - self._tail >= 2:
            self._ring[self._tail] = self._ring[self._tail + 1] = 255
        self._tail = 0
        self._wrapped = True
        return True

    def _remove(self):
        """Take the oldest frame out of the ring; return (offset, length) of where it still stands."""
        ring = self._ring
        at = self._head
        if len(ring) - at < 2 or (ring[at] << 8 | ring[at + 1]) == _SKIP:
            at = 0
            self._wrapped = False
        n = ring[at] << 8 | ring[at + 1]
        self._head = at + 2 + n
        self._count -= 1
        return at + 2, n

    def begin(self):
        """Return the frame to send now, or None; a view that holds until `done`. After a failure it is the same one."""
        if not self._sending_n:
            if not self._count:
                return None
            at, n = self._remove()
            self._sending_view[:n] = self._view[at : at + n]
            self._sending_n = n
        return self._sending_view[: self._sending_n]

    def done(self):
        """The broker has the frame that `begin` gave."""
        self._sending_n = 0
