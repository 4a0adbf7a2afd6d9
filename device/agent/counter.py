"""The frame counter: never the same value twice, whatever the power does.

Storage holds a bound that every used counter is below. The bound is raised before it is reached, so a restart skips
at most one stride and repeats nothing.
"""

import struct

_STRIDE = 1024
_MAGIC = 0x504C4331  # "PLC1"
_SIZE = 16


class StateLost(Exception):
    """The counter's records exist but none is whole. Going on could repeat a counter: the device needs a new key."""


def _sum(data):
    total = 1
    for byte in data:
        total = (total * 31 + byte) & 0xFFFFFF
    return total


class Counter:
    """`store` has read(name) -> bytes or None, and write(name, bytes), which is durable when it returns.

    Two records are written in turn, so that a torn write leaves the other one whole. `boot` is the number of this
    boot, from 1.
    """

    def __init__(self, store):
        self._store = store
        records = [self._load(i) for i in (0, 1)]
        whole = [r for r in records if r]
        if not whole and any([r is not None for r in records]):
            raise StateLost("both counter records are damaged; provision the device with a new key")
        self.boot, self._bound, slot = max(whole) if whole else (0, 0, 1)
        self._slot = slot
        self.boot += 1
        self._next = self._bound
        self._raise_bound()

    def _load(self, slot):
        """None: no record; False: a damaged one."""
        data = self._store.read("counter%d" % slot)
        if data is None:
            return None
        if len(data) != _SIZE:
            return False
        magic, boot, bound, check = struct.unpack(">IIII", data)
        return (boot, bound, slot) if magic == _MAGIC and check == _sum(data[:12]) else False

    def _raise_bound(self):
        self._bound = self._next + _STRIDE
        self._slot ^= 1
        data = struct.pack(">III", _MAGIC, self.boot, self._bound)
        self._store.write("counter%d" % self._slot, data + struct.pack(">I", _sum(data)))

    def take(self):
        """Return a counter that was never used before."""
        value = self._next
        if value + 1 >= self._bound:
            self._raise_bound()
        self._next = value + 1
        return value
