"""One microphone for several listeners: push-to-talk and the recorder. MicroPython subset."""

from agent.audio import samples

_UNITS = 50  # that wait for a listener, half a second; the oldest go when it is late
_STALE = 1024  # units that may wait in the microphone


class MicrophoneMultiplexer:
    """
    microphone  hal Microphone: open, read, buf, close. Open, and its indicator lit, while any listener wants it
    """

    def __init__(self, microphone):
        self._microphone = microphone
        self._made = []
        self._taps = []  # that are open

    def tap(self):
        """Return a listener: the contract of hal Microphone."""
        self._made.append(_Tap(self, len(self._microphone.buf)))
        if len(self._made) > 1:  # one alone waits for nobody
            for tap in self._made:
                tap.make_room()
        return self._made[-1]

    def want(self, tap):
        """Open the microphone for one more, who hears nothing that waits in it; False when it cannot be."""
        if not self._taps:
            if not self._microphone.open():
                return False
        else:
            for _ in range(_STALE):
                if not self._take(tap):
                    break
        if tap not in self._taps:
            self._taps.append(tap)
        return True

    def leave(self, tap):
        """One wants it no more."""
        if tap in self._taps:
            self._taps.remove(tap)
            if not self._taps:
                self._microphone.close()

    def read(self, tap):
        """Read what is new for `tap`, into its `buf`, and keep it for the others; return how many bytes there were."""
        n = self._take(tap)
        if n:
            samples.copy(self._microphone.buf, 0, tap.buf, 0, n)
        return n

    def _take(self, tap):
        """Keep what is new for all but `tap`; return how many bytes the microphone's `buf` has."""
        microphone = self._microphone
        n = microphone.read()
        if n:
            for other in self._taps:
                if other is not tap:
                    other.keep(microphone.buf, n)
        return n


class _Tap:
    def __init__(self, ears, unit):
        self._ears = ears
        self._unit = unit
        self.buf = bytearray(unit)
        self._kept = None  # a ring of units, and how many bytes each has
        self._sizes = None
        self._first = self._n = 0

    def make_room(self):
        """There are others: units may have to wait."""
        if self._kept is None:
            self._kept = bytearray(_UNITS * self._unit)
            self._sizes = bytearray(_UNITS)

    def open(self):
        """Hear what comes from now on; False when the microphone cannot be opened."""
        self._first = self._n = 0
        return self._ears.want(self)

    def keep(self, data, n):
        """Keep a unit that another listener read."""
        if self._n == _UNITS:
            self._first = (self._first + 1) % _UNITS
            self._n -= 1
        at = (self._first + self._n) % _UNITS
        samples.copy(data, 0, self._kept, at * self._unit, n)
        self._sizes[at] = n
        self._n += 1

    def read(self):
        """Return how many bytes are new in `buf`."""
        if not self._n:
            return self._ears.read(self)
        at = self._first
        n = self._sizes[at]
        samples.copy(self._kept, at * self._unit, self.buf, 0, n)
        self._first = (at + 1) % _UNITS
        self._n -= 1
        return n

    def close(self):
        """Hear no more."""
        self._n = 0
        self._ears.leave(self)
