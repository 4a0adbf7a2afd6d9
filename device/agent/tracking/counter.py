"""Numbers that survive the power: the frame counter upward, the highest counter accepted downward."""

import struct

_STRIDE = 1024
_MAGIC = 0x504C4331  # "PLC1"
_SIZE = 16


class StateLostError(Exception):
    """The records exist but none is whole. Going on could repeat a counter: the device needs a new key."""


def _sum(data):
    total = 1
    for byte in data:
        total = (total * 31 + byte) & 0xFFFFFF
    return total


class Record:
    """Two numbers (u32) in two records written in turn, so that a torn write leaves the other one whole.

    `store` has read(name) -> bytes or None, and write(name, bytes), which is durable when it returns. The pair with the
    greatest values is in force: they only grow.
    """

    def __init__(self, store, name):
        self._store = store
        self._name = name
        records = [self._load(i) for i in (0, 1)]
        whole = [r for r in records if r]
        self.a, self.b, self._slot = max(whole) if whole else (0, 0, 1)
        if not whole:
            if records[1] is not None:
                raise StateLostError("both %s records are damaged; provision the device with a new key" % name)
            # A new device, or one whose very first write was torn. Both are there before a number is used.
            self.write(0, 0)
            self.write(0, 0)

    def _load(self, slot):
        """None: no record; False: a damaged one."""
        data = self._store.read(self._name + str(slot))
        if data is None:
            return None
        if len(data) != _SIZE:
            return False
        magic, a, b, check = struct.unpack(">IIII", data)
        return (a, b, slot) if magic == _MAGIC and check == _sum(data[:12]) else False

    def write(self, a, b):
        """Store both."""
        self.a, self.b = a, b
        self._slot ^= 1
        data = struct.pack(">III", _MAGIC, a, b)
        self._store.write(self._name + str(self._slot), data + struct.pack(">I", _sum(data)))


class Counter:
    """The frame counter: never the same value twice, whatever the power does. `boot` is this boot's number, from 1.

    Storage holds a bound that every used counter is below. The bound is raised before it is reached, so a restart skips
    at most one stride and repeats nothing.
    """

    def __init__(self, store):
        self._record = Record(store, "counter")
        self.boot = self._record.a + 1
        self._next = self._record.b
        self._raise_bound()

    def _raise_bound(self):
        self._record.write(self.boot, self._next + _STRIDE)

    def take(self):
        """Return a counter that was never used before."""
        value = self._next
        if value + 1 >= self._record.b:
            self._raise_bound()
        self._next = value + 1
        return value
