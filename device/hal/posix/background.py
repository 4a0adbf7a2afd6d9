"""Files that grow without anybody waiting for the storage. It belongs to CPython: a thread of its own writes.

All writers of one Queue are served by one thread, in the order in which they were asked: what was given first is on
storage first, whatever file it is for.
"""

import os
import threading
from collections import deque


class Queue:
    """What is still to be done on one storage."""

    def __init__(self):
        self._jobs = deque()
        self._changed = threading.Condition()
        self._idle = True
        threading.Thread(target=self._run, daemon=True, name="storage").start()

    def add(self, job, *given):
        """Have job(*given) called when all before it is done."""
        with self._changed:
            self._jobs.append((job, given))
            self._idle = False
            self._changed.notify_all()

    def flush(self, ms):
        """Wait until all is done, `ms` at most."""
        with self._changed:
            self._changed.wait_for(lambda: self._idle, ms / 1000)

    def _run(self):
        while True:
            with self._changed:
                if not self._jobs:
                    self._idle = True
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._jobs)
                job, given = self._jobs.popleft()
            job(*given)


class Writer:
    """
    behind  bytes and orders taken and not yet carried out; 0 after `close`: the file is whole on storage, or `fault`
    fault   why it took no more, "" while it does; what is given after that is thrown away
    """

    def __init__(self, queue, path):
        self._queue = queue
        self._file = None
        self._lock = threading.Lock()
        self.behind = 0
        self.fault = ""
        self._order(1, self._open, path)

    def write(self, data):
        """Append a copy of `data`."""
        data = bytes(data)
        self._order(len(data), self._write, data)

    def sync(self):
        """Have all before this on storage."""
        self._order(1, self._sync)

    def close(self):
        """Have all on storage and the file closed."""
        self._order(1, self._close)

    def _order(self, cost, job, *given):
        with self._lock:
            self.behind += cost
        self._queue.add(self._do, cost, job, *given)

    def _do(self, cost, job, *given):
        try:
            if not self.fault:
                job(*given)
        except OSError as e:
            self.fault = str(e)
            self._shut()
        with self._lock:
            self.behind -= cost

    def _open(self, path):
        self._file = open(path, "ab", 0)

    def _write(self, data):
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    def _sync(self):
        os.fsync(self._file.fileno())

    def _close(self):
        self._sync()
        self._shut()

    def _shut(self):
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:
                pass
