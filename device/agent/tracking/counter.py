"""Numbers that survive a power cut: the uplink frame counter, the highest accepted downlink counter and others."""

import struct

from patrolink_protocol.native import const

_STEP_MIN = const(32)
_STEP_MAX = const(1024)
_RESERVE = const(32)
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
        if not intact and records[1] is not None:
            raise StateLostError("both %s records are damaged; provision the device with a new key" % name)
        # A new device, or one whose first write was torn: both records must exist before a number is used.
        self._missing = 0 if intact else 2

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
        """Store a pair.

        Raises:
            OSError: Storage refused it. The previous pair stays in force.
        """
        while self._missing:
            self._save(0, 0)
            self._missing -= 1
        self._save(first, second)

    def _save(self, first, second):
        slot = self._slot ^ 1
        data = struct.pack(">III", _MAGIC, first, second)
        self._store.write(self._name + str(slot), data + struct.pack(">I", _checksum(data)))
        self.first, self.second, self._slot = first, second, slot


class Counter:
    """The uplink frame counter, which never returns a value twice, also across power cuts.

    Storage holds an upper bound of all values used. The bound is raised before it is reached, in steps that double from
    32 to 1024 values: a restart skips about as many values as the boot before has used, so that the frames of many
    short boots fit the replay window of the hub. The last 32 values below the bound are for events that must not wait
    until storage, now full or failing, accepts a higher bound.

    A boot on storage that accepts nothing has no values until storage accepts a bound.

    Args:
        store: hal Store of the bound.

    Attributes:
        boot: Number of this boot, from 1.
        first: Lowest value of this boot.
    """

    def __init__(self, store):
        self._record = Record(store, "counter")
        self.boot = self._record.first + 1
        self._next = self.first = self._record.second
        self._step = _STEP_MIN
        try:
            self._raise_bound()
        except OSError:
            pass  # the next `take` tries again

    def _raise_bound(self):
        self._record.write(self.boot, self._next + self._step + _RESERVE)
        self._step = min(2 * self._step, _STEP_MAX)

    def take(self, urgent=False):
        """Return the next unused value.

        Args:
            urgent: Use the reserve when storage refuses to raise the bound.

        Raises:
            OSError: Storage refuses, and no value is left for this purpose.
        """
        left = self._record.second - self._next
        if left <= _RESERVE:
            try:
                self._raise_bound()
            except OSError:
                if not (urgent and left):
                    raise
        value = self._next
        self._next = value + 1
        return value
