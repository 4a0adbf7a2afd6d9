"""Files written by a background thread, so that no caller waits for storage. For CPython only.

One thread serves all writers of a queue, in the order of the calls: data given first reaches storage first, whatever
file it belongs to.
"""

import os
import threading
from collections import deque


class WriteQueue:
    """Operations that wait for one storage device. The thread starts with the first operation."""

    def __init__(self):
        self._jobs = deque()
        self._changed = threading.Condition()
        self._idle = True
        self._thread = None

    def open(self, path):
        """Return a writer that appends to the file at `path`."""
        return Writer(self, path)

    def add(self, job, *args):
        """Call job(*args) in the thread after all earlier operations."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="storage")
                self._thread.start()
            self._jobs.append((job, args))
            self._idle = False
            self._changed.notify_all()

    def flush(self, timeout_ms):
        """Wait until all operations are done, at most `timeout_ms`."""
        with self._changed:
            self._changed.wait_for(lambda: self._idle, timeout_ms / 1000)

    def _run(self):
        while True:
            with self._changed:
                if not self._jobs:
                    self._idle = True
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._jobs)
                job, args = self._jobs.popleft()
            job(*args)


class Writer:
    """Appends to one file in the background.

    Args:
        queue: WriteQueue that carries out the operations.
        path: Path of the file.

    Attributes:
        behind: Bytes and operations accepted but not yet carried out. 0 after `close` means that the file is complete
            on storage, or that `fault` says why not.
        fault: Why the writer stopped, or "". Data written after a fault is discarded.
    """

    def __init__(self, queue, path):
        self._queue = queue
        self._file = None
        self._lock = threading.Lock()
        self.behind = 0
        self.fault = ""
        self._submit(1, self._open, path)

    def write(self, data):
        """Append a copy of `data`."""
        data = bytes(data)
        self._submit(len(data), self._write, data)

    def sync(self):
        """Flush all data written so far to storage."""
        self._submit(1, self._sync)

    def close(self):
        """Flush all data to storage and close the file."""
        self._submit(1, self._close)

    def _submit(self, cost, job, *args):
        with self._lock:
            self.behind += cost
        self._queue.add(self._run, cost, job, *args)

    def _run(self, cost, job, *args):
        try:
            if not self.fault:
                job(*args)
        except OSError as e:
            self.fault = str(e)
            self._release()
        with self._lock:
            self.behind -= cost

    def _open(self, path):
        self._file = open(path, "ab", 0)

    def _write(self, data):
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def _sync(self):
        os.fsync(self._file.fileno())

    def _close(self):
        self._sync()
        self._release()

    def _release(self):
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError:
                pass
