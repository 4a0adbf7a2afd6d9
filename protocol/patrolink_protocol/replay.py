"""Replay window of frame counters (SPEC.md, "Counters"). MicroPython subset."""


class ReplayWindow:
    """Accepts each counter once: down to `size` below the highest one in any order, never below that.

    Memory is `size` bits, allocated once.

    Args:
        size: Window size in counters; 0 is the rule of a device: counters only increase.
        highest: Highest counter accepted so far; -1 for none.
        bitmap: Buffer of size / 8 bytes with a bit for each counter modulo `size`; None for a new one.
    """

    NEW, REPEATED, OLD = 0, 1, 2

    def __init__(self, size=0, highest=-1, bitmap=None):
        self.highest = highest
        self._size = size
        self._bitmap = bytearray((size + 7) >> 3) if bitmap is None else bitmap

    def accept(self, counter):
        """Record a counter and return NEW; otherwise return REPEATED or OLD (below the window)."""
        size = self._size
        if counter > self.highest:
            if size:
                bitmap = self._bitmap
                # Slots between the old highest counter and the new one are counters not received.
                if self.highest < 0:
                    pass
                elif counter - self.highest > size:
                    for i in range(len(bitmap)):
                        bitmap[i] = 0
                else:
                    for c in range(self.highest + 1, counter):
                        c %= size
                        bitmap[c >> 3] &= ~(1 << (c & 7))
                c = counter % size
                bitmap[c >> 3] |= 1 << (c & 7)
            self.highest = counter
            return self.NEW
        if counter <= self.highest - size:
            return self.REPEATED if counter == self.highest else self.OLD
        c = counter % size
        if self._bitmap[c >> 3] >> (c & 7) & 1:
            return self.REPEATED
        self._bitmap[c >> 3] |= 1 << (c & 7)
        return self.NEW
