"""Storage in memory, for tests on both runtimes."""


class PowerCut(Exception):
    """The power went in the middle of a write."""


class MemoryStore:
    """The store contract of agent.counter."""

    def __init__(self):
        self.records = {}

    def read(self, name):
        return self.records.get(name)

    def write(self, name, data):
        self.records[name] = bytes(data)


class MemoryFiles:
    """The files contract of agent.link.outbox. Dies after `left` operations: bytes written, files made or removed."""

    def __init__(self):
        self.data = {}
        self.left = None
        self.full = None  # bytes after which the storage says that it is full

    def spend(self, n):
        if self.full is not None and sum([len(d) for d in self.data.values()]) + n > self.full:
            raise OSError(28)
        if self.left is not None:
            if self.left <= 0:
                raise PowerCut()
            self.left -= n

    def names(self):
        return list(self.data)

    def size(self, name):
        if name not in self.data:
            raise OSError(2)
        return len(self.data[name])

    def append(self, name, data):
        if name not in self.data:
            self.spend(1)
            self.data[name] = bytearray()
        for byte in data:
            self.spend(1)
            self.data[name].append(byte)

    def read(self, name, at, buf):
        if name not in self.data:
            raise OSError(2)
        part = self.data[name][at : at + len(buf)]
        buf[: len(part)] = part
        return len(part)

    def remove(self, name):
        self.spend(1)
        if name not in self.data:
            raise OSError(2)
        del self.data[name]

    def rename(self, old, new):
        self.spend(1)
        self.data[new] = self.data.pop(old)
