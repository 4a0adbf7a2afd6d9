"""Faults of the storage of a simulated hub: full, or the process is killed between two system calls.

The hub writes real files in a private folder. While it runs, the system calls that change files pass this module.
"""

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_CALLS = ("open", "write", "fsync", "ftruncate", "truncate", "replace", "rename", "posix_fallocate", "unlink", "close")
_WRITING_FLAGS = os.O_WRONLY | os.O_RDWR


class VirtualStorage:
    """Storage of one hub's machine.

    Args:
        on_kill: Called when `kill_after` system calls have been made: the process is killed.
        on_delay: Called with the milliseconds that a system call takes.
        on_replaced: Called with the path of a file that was replaced.

    Attributes:
        kill_after: Number of system calls until the process is killed; None: it is not.
        calls: Number of system calls so far.
        write_ms: How long each system call takes that changes files.
    """

    def __init__(
        self, on_kill: Callable[[], None], on_delay: Callable[[float], None], on_replaced: Callable[[Path], None]
    ) -> None:
        self._on_kill, self._on_delay, self._on_replaced = on_kill, on_delay, on_replaced
        self.write_ms = 0.0
        self._free: int | None = None  # bytes; None: storage is not full
        self._shared = False  # another program writes, too
        self._sizes: dict[int, int] = {}  # of open files, as far as their bytes have taken space
        self.kill_after: int | None = None
        self.calls = 0

    def fill(self, shared: bool) -> None:
        """Leave no space from now on.

        Args:
            shared: Another program takes what the hub gives back.
        """
        self._free, self._shared = 0, shared

    def clear(self) -> None:
        """Give space again."""
        self._free = None

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Let the system calls of the hub pass this object."""
        real = {name: getattr(os, name) for name in _CALLS if hasattr(os, name)}
        for name, call in real.items():
            setattr(os, name, self._wrap(name, call))
        try:
            yield
        finally:
            for name, call in real.items():
                setattr(os, name, call)

    def _wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        account = getattr(self, f"_on_{name}")

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            loop = asyncio._get_running_loop()  # only the hub runs on an event loop
            if loop is None or name == "close" or (name == "open" and not args[1] & _WRITING_FLAGS):
                if name == "close":
                    self._sizes.pop(args[0], None)
                return call(*args, **kwargs)
            self.calls += 1
            if self.write_ms:
                self._on_delay(self.write_ms)
            if self.kill_after is not None:
                self.kill_after -= 1
                if self.kill_after < 0:
                    self.kill_after = None
                    self._on_kill()
            if loop.is_closed():  # what is left of the callback runs, but a dead process changes nothing
                raise OSError(errno.EIO, "the process was killed")
            return account(call, *args, **kwargs)

        return wrapped

    def _take(self, n: int) -> None:
        if self._free is not None and n > 0:
            if n > self._free:
                raise OSError(errno.ENOSPC, "no space left on device")
            self._free -= n

    def _give(self, n: int) -> None:
        if self._free is not None and not self._shared:
            self._free += n

    # --- system calls -------------------------------------------------------------------------------------------------

    def _on_open(self, call: Callable[..., Any], path: Any, flags: int, *args: Any, **kwargs: Any) -> Any:
        before = _size(path)
        handle = call(path, flags, *args, **kwargs)
        self._sizes[handle] = os.fstat(handle).st_size
        self._give(max(0, before - self._sizes[handle]))
        return handle

    def _on_write(self, call: Callable[..., Any], handle: int, data: Any) -> Any:
        self._take(len(data))
        self._sizes[handle] = self._sizes.get(handle, 0) + len(data)
        return call(handle, data)

    def _on_fsync(self, call: Callable[..., Any], handle: int) -> Any:
        size = os.fstat(handle).st_size  # includes what was written through a buffer
        self._take(size - self._sizes.get(handle, size))
        self._sizes[handle] = size
        return call(handle)

    def _on_posix_fallocate(self, call: Callable[..., Any], handle: int, offset: int, n: int) -> Any:
        self._take(offset + n - os.fstat(handle).st_size)
        result = call(handle, offset, n)
        self._sizes[handle] = os.fstat(handle).st_size
        return result

    def _on_ftruncate(self, call: Callable[..., Any], handle: int, n: int) -> Any:
        self._give(max(0, self._sizes.get(handle, os.fstat(handle).st_size) - n))
        self._sizes[handle] = n
        return call(handle, n)

    def _on_truncate(self, call: Callable[..., Any], path: Any, n: int) -> Any:
        self._give(max(0, _size(path) - n))
        return call(path, n)

    def _on_unlink(self, call: Callable[..., Any], path: Any, **kwargs: Any) -> Any:
        self._give(_size(path))
        return call(path, **kwargs)

    def _on_replace(self, call: Callable[..., Any], source: Any, target: Any, **kwargs: Any) -> Any:
        self._give(_size(target))
        call(source, target, **kwargs)
        self._on_replaced(Path(target))

    _on_rename = _on_replace

    def _on_close(self, call: Callable[..., Any], handle: int) -> Any:
        return call(handle)


def _size(path: Any) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
