"""Numbers that survive a power cut: the uplink frame counter, the highest accepted downlink counter and others."""

import struct

from patrolink_protocol.native import const

_STRIDE = const(1024)
_MAGIC = const(0x504C4331)  # "PLC1"
_RECORD_BYTES = const(16)


class StateLostError(Exception):
    """The records exist but both are damaged. A counter could repeat, so the device needs a new key."""


def _checksum(data):
    total = 1
    for byte in data:
        total = (total * 31 + byte) & 0xFFFFFF
    return total


class Record:
    """Two numbers (u32) in two alternating records, so that a torn write leaves the previous pair intact.

    The greater pair, compared as (first, second), is in force: the numbers only grow.

    Args:
        store: hal Store: read(name) -> bytes or None; write(name, data), durable when it returns.
        name: Name of the records; "0" and "1" are appended.

    Attributes:
        first: The more significant number.
        second: The less significant number.

    Raises:
        StateLostError: Both records are damaged.
    """

    def __init__(self, store, name):
        self._store = store
        self._name = name
        records = [self._load(i) for i in (0, 1)]
        intact = [r for r in records if r]
        self.first, self.second, self._slot = max(intact) if intact else (0, 0, 1)
        if not intact:
            if records[1] is not None:
                raise StateLostError("both %s records are damaged; provision the device with a new key" % name)
            # A new device, or one whose first write was torn. Both records must exist before a number is used.
            self.write(0, 0)
            self.write(0, 0)

    def _load(self, slot):
        """Return (first, second, slot), None when there is no record, or False when it is damaged."""
        data = self._store.read(self._name + str(slot))
        if data is None:
            return None
        if len(data) != _RECORD_BYTES:
            return False
        magic, first, second, checksum = struct.unpack(">IIII", data)
        return (first, second, slot) if magic == _MAGIC and checksum == _checksum(data[:12]) else False

    def write(self, first, second):
        """Store a pair."""
        self.first, self.second = first, second
        self._slot ^= 1
        data = struct.pack(">III", _MAGIC, first, second)
        self._store.write(self._name + str(self._slot), data + struct.pack(">I", _checksum(data)))


class Counter:
    """The uplink frame counter, which never returns a value twice, also across power cuts.

    Storage holds an upper bound of all values used. The bound is raised before it is reached, so a restart skips at
    most 1024 values.

    Args:
        store: hal Store of the bound.

    Attributes:
        boot: Number of this boot, from 1.
    """

    def __init__(self, store):
        self._record = Record(store, "counter")
        self.boot = self._record.first + 1
        self._next = self._record.second
        self._raise_bound()

    def _raise_bound(self):
        self._record.write(self.boot, self._next + _STRIDE)

    def take(self):
        """Return the next unused value."""
        value = self._next
        if value + 1 >= self._record.second:
            self._raise_bound()
        self._next = value + 1
        return value
