"""One frame in memory, for messages that are worth sending only now: the next one replaces it.

The outbox writes each frame to storage, and after a power cut it sends those of a whole segment again.
"""


class LatestFrame:
    """A source of frames for agent.link.supervisor. Its length is the number of frames that wait, 0 or 1.

    Args:
        size_max: Bytes of the longest frame.
    """

    def __init__(self, size_max):
        self._buf = memoryview(bytearray(size_max))
        self._size = 0

    def __len__(self):
        return 1 if self._size else 0

    def put(self, frame):
        """Keep a frame (bytes-like) in place of the one that waits."""
        size = len(frame)
        self._buf[:size] = frame
        self._size = size

    def clear(self):
        """Forget the frame: its session has ended, or the broker has it."""
        self._size = 0

    def peek(self):
        """Return a view of the frame, valid until the next `put`, or None."""
        return self._buf[: self._size] if self._size else None

    def acknowledge(self):
        """Forget the frame that `peek` returned: the broker has it."""
        self._size = 0
