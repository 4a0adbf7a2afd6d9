"""Faults of the storage of a simulated hub: full, or the process is killed between two system calls.

The hub writes real files in a private folder. While it runs, the system calls that change files pass this module.
"""

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from typing import Any

_CALLS = ("open", "write", "fsync", "ftruncate", "truncate", "replace", "rename", "posix_fallocate", "unlink")
_SPACE_CALLS = ("write", "fsync", "posix_fallocate")  # fail when no space is left; `fsync` stands for buffered writes
_WRITING_FLAGS = os.O_WRONLY | os.O_RDWR


class VirtualStorage:
    """Storage of one hub's machine.

    Args:
        on_kill: Called when `kill_after` system calls have been made: the process is killed.

    Attributes:
        full: Whether no space is left.
        kill_after: Number of system calls until the process is killed; None: it is not.
        calls: Number of system calls so far.
    """

    def __init__(self, on_kill: Callable[[], None]) -> None:
        self._on_kill = on_kill
        self.full = False
        self.kill_after: int | None = None
        self.calls = 0

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
        takes_space = name in _SPACE_CALLS

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            loop = asyncio._get_running_loop()  # only the hub runs on an event loop
            if loop is None or (name == "open" and not args[1] & _WRITING_FLAGS):
                return call(*args, **kwargs)
            self.calls += 1
            if self.kill_after is not None:
                self.kill_after -= 1
                if self.kill_after < 0:
                    self.kill_after = None
                    self._on_kill()
            if loop.is_closed():  # what is left of the callback runs, but a dead process changes nothing
                raise OSError(errno.EIO, "the process was killed")
            if takes_space and self.full:
                raise OSError(errno.ENOSPC, "no space left on device")
            return call(*args, **kwargs)

        return wrapped
