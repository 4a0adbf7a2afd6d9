"""Several files that are written together: all of them, or none.

New contents are staged beside their targets, so that a full disk is noticed before anything has changed. `commit` then
only renames. If it fails or is interrupted, the earlier files come back.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from patrolink.core import durable_files
from patrolink.core.signals import stop_deferred

_PREFIX = "."


class _Staged(NamedTuple):
    path: Path

    @property
    def new(self) -> Path:
        return self.path.with_name(f".{self.path.name}.new")

    @property
    def old(self) -> Path:
        return self.path.with_name(f".{self.path.name}.old")


class FileTransaction:
    """The files of one transaction. A context manager: what was not committed is removed at its end."""

    def __init__(self) -> None:
        self._staged: list[_Staged] = []
        self._folders: list[Path] = []  # created, in order

    def __enter__(self) -> "FileTransaction":
        return self

    def __exit__(self, *_: object) -> None:
        for staged in self._staged:
            staged.new.unlink(missing_ok=True)
        for folder in reversed(self._folders):
            with contextlib.suppress(OSError):  # it has files of the transaction
                folder.rmdir()

    @property
    def paths(self) -> list[Path]:
        """The files that would change."""
        return [staged.path for staged in self._staged]

    def staged_path(self, path: Path) -> Path:
        """Return where the new content of a file is before the commit: the file itself if it does not change."""
        staged = _Staged(path)
        return staged.new if staged in self._staged else path

    def stage(self, path: Path, data: bytes, mode: int = 0o600) -> bool:
        """Write the new content of a file beside it, durably. A missing folder is created, readable by its owner.

        Returns:
            False if the file has this content and mode already; it is not touched then.

        Raises:
            OSError: Storage failed. No target has changed.
        """
        staged = _Staged(path)
        for left in (staged.new, staged.old):  # of a run that was killed
            left.unlink(missing_ok=True)
        if _is_unchanged(path, data, mode):
            return False
        self._make_folder(path.parent)
        self._staged.append(staged)
        handle = os.open(staged.new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as f:
            os.fchmod(handle, mode)  # whatever the umask
            if os.geteuid() == 0:  # the hub's user has to read its keys
                owner = (path if path.exists() else path.parent).stat()
                os.fchown(handle, owner.st_uid, owner.st_gid)
            f.write(data)
            f.flush()
            os.fsync(handle)
        return True

    def commit(self, complete: Callable[[], None]) -> None:
        """Replace all files, and call `complete`. A stop signal takes effect afterwards.

        Args:
            complete: Records the change; if it raises an exception, the earlier files come back.

        Raises:
            OSError: A file could not be replaced. The earlier files are back.
        """
        with stop_deferred(), contextlib.ExitStack() as undo:
            for staged in self._staged:
                undo.callback(_restore, staged, staged.path.exists())
                _keep_old(staged)
                staged.new.replace(staged.path)
            for folder in {staged.path.parent for staged in self._staged} | {path.parent for path in self._folders}:
                durable_files.sync(folder)
            complete()
            undo.pop_all()
            for staged in self._staged:
                staged.old.unlink(missing_ok=True)

    def _make_folder(self, folder: Path) -> None:
        missing = []
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            path.mkdir(mode=0o700)
            self._folders.append(path)


def _is_unchanged(path: Path, data: bytes, mode: int) -> bool:
    try:
        with path.open("rb") as f:
            return stat.S_IMODE(os.fstat(f.fileno()).st_mode) == mode and f.read(len(data) + 1) == data
    except FileNotFoundError:
        return False


def _keep_old(staged: _Staged) -> None:
    """Keep the earlier file under another name, without space on storage if the file system has hard links."""
    if staged.path.exists():
        try:
            os.link(staged.path, staged.old)
        except OSError:
            shutil.copy2(staged.path, staged.old)


def _restore(staged: _Staged, existed: bool) -> None:
    if not existed:
        staged.path.unlink(missing_ok=True)
    elif staged.old.exists():
        staged.old.replace(staged.path)
        staged.old.unlink(missing_ok=True)  # rename(2) leaves both names if they are links to one file
