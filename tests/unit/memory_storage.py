"""Storage in memory, for tests on both runtimes."""

import io


class PowerCut(Exception):
    """The power was cut during a write."""


class MemoryStore:
    """Implements the store contract of agent.tracking.counter.

    Attributes:
        records: Contents by name.
        fault: OSError number that every write raises; 0: none.
        writes: Records written so far.
    """

    def __init__(self):
        self.records = {}
        self.fault = 0
        self.writes = 0

    def read(self, name):
        return self.records.get(name)

    def write(self, name, data):
        if self.fault:
            raise OSError(self.fault)
        self.writes += 1
        self.records[name] = bytes(data)


class Writer:
    """Result of MemoryFiles.open: implements the writer contract of hal.clip_storage."""

    def __init__(self, files, name):
        self._files = files
        self._name = name
        self.behind = 0
        self.fault = ""
        self._order(1, b"")

    def write(self, data):
        self._order(len(data), bytes(data))

    def sync(self):
        self._order(1, None)

    def close(self):
        self._order(1, None)

    def _order(self, cost, data):
        self.behind += cost
        self._files.order(self._do, cost, data)

    def _do(self, cost, data):
        try:
            if self.fault:
                pass
            elif data is None:
                self._files.spend(0)
            else:
                self._files.append(self._name, data)
        except OSError as e:
            self.fault = str(e)
        self.behind -= cost


class MemoryFiles:
    """Implements the files contract of agent.link.outbox and agent.recording.

    Attributes:
        data: Contents by file name.
        left: Operations until PowerCut is raised; None: never. An operation is a byte written, or a file created,
            renamed or removed.
        full: Capacity in bytes; None: unlimited.
        fault: OSError number that every call raises; 0: none.
        behind: None: writes are carried out at once. A list: they are queued in it until `work`, as on slow storage.
        written: Bytes written so far.
    """

    def __init__(self):
        self.data = {}
        self.left = None
        self.full = None
        self.fault = 0
        self.behind = None
        self.written = 0

    def spend(self, n, allocated=None):
        """Count `n` operations that allocate as many bytes, or `allocated`."""
        if self.fault:
            raise OSError(self.fault)
        allocated = n if allocated is None else allocated
        if self.full is not None and allocated and sum([len(d) for d in self.data.values()]) + allocated > self.full:
            raise OSError(28)
        if self.left is not None:
            if self.left <= 0:
                raise PowerCut()
            self.left -= n

    def names(self):
        if self.fault:
            raise OSError(self.fault)
        return list(self.data)

    def size(self, name):
        if self.fault or name not in self.data:
            raise OSError(self.fault or 2)
        return len(self.data[name])

    def append(self, name, data):
        if name not in self.data:
            self.spend(1)
            self.data[name] = bytearray()
        n = len(data)
        if self.left is not None and not self.fault:
            n = min(n, max(self.left, 0))
        if self.full is not None:
            n = min(n, max(self.full - sum([len(d) for d in self.data.values()]), 0))
        self.spend(n if n else len(data))
        self.data[name].extend(data[:n])
        self.written += n
        if n < len(data):
            self.spend(len(data) - n)

    def read(self, name, at, buf):
        if self.fault or name not in self.data:
            raise OSError(self.fault or 2)
        part = self.data[name][at : at + len(buf)]
        buf[: len(part)] = part
        return len(part)

    def open_stream(self, name):
        if self.fault or name not in self.data:
            raise OSError(self.fault or 2)
        return io.BytesIO(bytes(self.data[name]))

    def remove(self, name):
        self.spend(1, 0)
        if name not in self.data:
            raise OSError(2)
        del self.data[name]

    def rename(self, old, new):
        self.spend(1, 0)
        self.data[new] = self.data.pop(old)

    def open(self, name):
        return Writer(self, name)

    def drop(self, name):
        self.order(self._drop, name)

    def _drop(self, name):
        try:
            self.remove(name)
        except OSError:
            pass

    def order(self, job, *args):
        if self.behind is None:
            job(*args)
        else:
            self.behind.append((job, args))

    def work(self, orders):
        """Carry out the first `orders` queued operations."""
        while self.behind and orders:
            job, args = self.behind.pop(0)
            job(*args)
            orders -= 1

    def flush(self, ms):
        if self.behind:
            self.work(len(self.behind))

    def free_kb(self):
        if self.fault or self.full is None:
            return None
        return max(self.full - sum([len(d) for d in self.data.values()]), 0) >> 10


def drain(queue):
    """Return all frames that an outbox or event queue offers, in order, and acknowledge each."""
    frames = []
    while True:
        data = queue.peek()
        if data is None:
            return frames
        frames.append(bytes(data))
        queue.acknowledge()
