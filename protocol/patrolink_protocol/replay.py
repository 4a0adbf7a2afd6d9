"""Replay window of frame counters (SPEC.md, "Counters"). MicroPython subset."""


class ReplayWindow:
    """Accepts each counter once: down to `size` below the highest one in any order, never below that.

    Memory is `size` bits, allocated once.

    Args:
        size: Window size in counters; 0 is the rule of a device: counters only increase.
        highest: Highest counter accepted so far; -1 for none.
    """

    NEW, SEEN, OLD = 0, 1, 2

    def __init__(self, size=0, highest=-1):
        self.highest = highest
        self._size = size
        self._seen = bytearray((size + 7) >> 3)

    def accept(self, counter):
        """Record a counter and return NEW; otherwise return SEEN (a repeat) or OLD (below the window)."""
        size = self._size
        if counter > self.highest:
            if size:
                seen = self._seen
                # Slots between the old highest counter and the new one are counters not seen.
                if self.highest < 0:
                    pass
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
