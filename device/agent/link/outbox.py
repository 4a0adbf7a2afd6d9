"""Frames waiting for the broker, in memory and bounded.

A frame leaves by `done` once the broker acknowledged it. When the bound is reached the oldest waiting frame goes,
and is counted; the frame being sent at that moment is never the one.
"""


class Outbox:
    """`limit_bytes` bounds the payload held."""

    def __init__(self, limit_bytes=32768):
        self._limit = limit_bytes
        self._frames = []
        self._bytes = 0
        self._sending = False
        self.dropped = 0

    def __len__(self):
        return len(self._frames)

    def put(self, frame):
        """Append a frame; make room by dropping the oldest that is not being sent."""
        self._frames.append(frame)
        self._bytes += len(frame)
        oldest = 1 if self._sending else 0
        while self._bytes > self._limit and len(self._frames) > oldest + 1:
            self._bytes -= len(self._frames.pop(oldest))
            self.dropped += 1

    def begin(self):
        """Return the frame to send now, or None. It stays first until `done` or `abandon`."""
        if not self._frames:
            return None
        self._sending = True
        return self._frames[0]

    def done(self):
        """The broker has the frame that `begin` gave."""
        self._sending = False
        self._bytes -= len(self._frames.pop(0))

    def abandon(self):
        """Sending failed; the frame stays first."""
        self._sending = False
