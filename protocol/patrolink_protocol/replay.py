"""Which counters were accepted already. MicroPython subset. SPEC.md, "Counters"."""


class ReplayWindow:
    """Accepts each counter once: those up to `size` below the highest in any order, older ones never.

    A `size` of 0 is the device's rule: only ever upwards. Memory is `size` bits, taken once.
    """

    NEW, SEEN, OLD = 0, 1, 2

    def __init__(self, size=0, highest=-1):
        self.highest = highest
        self._size = size
        self._seen = bytearray((size + 7) >> 3)

    def accept(self, counter):
        """Return NEW and remember the counter, or say why not: SEEN (a repeat) or OLD (below the window)."""
        size = self._size
        if counter > self.highest:
            if size:
                seen = self._seen
                # Every slot between the old highest and the new one stands for a counter that was not seen.
                if self.highest < 0:
                    pass  # nothing was seen yet
                elif counter - self.highest > size:
                    for i in range(len(seen)):
                        seen[i] = 0
                else:
                    for c in range(self.highest + 1, counter):
                        c %= size
                        seen[c >> 3] &= ~(1 << (c & 7))
                c = counter % size
                seen[c >> 3] |= 1 << (c & 7)
            self.highest = counter
            return self.NEW
        if counter <= self.highest - size:
            return self.SEEN if counter == self.highest else self.OLD
        c = counter % size
        if self._seen[c >> 3] >> (c & 7) & 1:
            return self.SEEN
        self._seen[c >> 3] |= 1 << (c & 7)
        return self.NEW
