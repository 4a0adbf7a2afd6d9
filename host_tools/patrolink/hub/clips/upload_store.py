"""Uploaded files on storage, and the storage that each device may use.

A pending file is <clips>/<device>/<clip>/<name>.<bytes>.<sha256>.part: its name and size hold the state of the upload
over a restart. A complete file has its final name and is never replaced.
"""

import asyncio
import os
import re
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from patrolink.core import durable_files
from patrolink.hub.clips.clip_record import CLIPS_MAX, ClipKey, clip_folder

_PART = re.compile(r"([0-9]{6}\.plm|[0-9]{6}-[0-9]{6}\.pls)\.([0-9]{1,10})\.([0-9a-f]{64})\.part")
_FILES_MAX = 4096  # of a clip
_PENDING_FILES_MAX = 64  # of a device
_PENDING_CLIPS_MAX = 16  # of a device
_FILE_BYTES_MIN = 1 << 14  # that a file counts for: small ones need inodes and memory
_RESERVED_BYTES = 1 << 28  # of the file system, for everything else


class ClipFile(NamedTuple):
    """A file of a clip: device, number of the clip, name of the file."""

    device: str
    clip: int
    name: str

    @property
    def key(self) -> ClipKey:
        """The clip."""
        return ClipKey(self.device, self.clip)


class StorageLimitError(Exception):
    """A file exceeds a limit; the text names it.

    Args:
        status: The HTTP status: 507 no space, 429 other uploads must complete first, 413 never possible.
        text: The reason.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(eq=False)
class Upload:
    """A pending file: its final length and SHA-256, where it is stored, and the bytes received so far."""

    file: ClipFile
    length: int
    sha256: str
    path: Path
    offset: int = 0


class UploadStore:
    """The files of all devices' clips. Call the coroutines for one request of a device at a time.

    Args:
        folder: The site's folder of clips; pending files in it are continued.
        bytes_max: Bytes that the clips of one device may take.
    """

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder, self._bytes_max = folder, bytes_max
        self._pending: dict[ClipKey, dict[str, Upload]] = {}
        self._bytes: dict[str, int] = defaultdict(int)  # of each device; pending files count with their full length
        self._clips: dict[str, set[int]] = defaultdict(set)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in folder.glob("*/[0-9][0-9][0-9][0-9][0-9][0-9]"):
            self._clips[path.parent.name].add(int(path.name))
            with os.scandir(path) as entries:
                for entry in entries:
                    self._restore(path, entry)

    def _restore(self, folder: Path, entry: "os.DirEntry[str]") -> None:
        device, size = folder.parent.name, entry.stat().st_size
        part = _PART.fullmatch(entry.name)
        if part is not None and size <= int(part[2]):
            file = ClipFile(device, int(folder.name), part[1])
            self._add(Upload(file, int(part[2]), part[3], folder / entry.name, size))
        else:
            self._bytes[device] += max(size, _FILE_BYTES_MIN)

    def path(self, file: ClipFile) -> Path:
        """Return the path of a complete file."""
        return clip_folder(self._folder, file.key) / file.name

    def get(self, file: ClipFile) -> Upload | None:
        """Return a pending file; None when there is none."""
        return self._pending.get(file.key, {}).get(file.name)

    def pending(self, key: ClipKey) -> list[Upload]:
        """Return the pending files of a clip."""
        return list(self._pending.get(key, {}).values())

    def check_space(self, size: int) -> None:
        """Raise StorageLimitError when storage has no space for so many bytes, reserve included. Raises OSError."""
        if shutil.disk_usage(self._folder).free < size + _RESERVED_BYTES:
            raise StorageLimitError(507, "the hub's storage is full")

    async def create(self, file: ClipFile, length: int, sha256: str) -> Upload:
        """Create a pending file. One of the same name with other content is deleted. Raises StorageLimitError, OSError.

        Args:
            file: The file.
            length: Its length in bytes.
            sha256: Its SHA-256 in hexadecimal.
        """
        self.drop(file)
        pending = [(key.clip, len(files)) for key, files in self._pending.items() if key.device == file.device]
        if len({clip for clip, _ in pending} | {file.clip}) > _PENDING_CLIPS_MAX:
            raise StorageLimitError(429, f"{_PENDING_CLIPS_MAX} clips are pending already; complete them first")
        if sum(count for _, count in pending) >= _PENDING_FILES_MAX:
            raise StorageLimitError(429, f"{_PENDING_FILES_MAX} files are pending already; complete them first")
        used = self._bytes[file.device] + max(length, _FILE_BYTES_MIN)
        if used > self._bytes_max or len(self._clips[file.device] | {file.clip}) > CLIPS_MAX:
            raise StorageLimitError(507, f"the clips of {file.device} use all the space that clips_gb allows")
        path = self.path(file)
        upload = Upload(file, length, sha256, path.with_name(f"{file.name}.{length}.{sha256}.part"))
        await asyncio.to_thread(self._create_file, upload)
        self._clips[file.device].add(file.clip)
        self._add(upload)
        return upload

    def _create_file(self, upload: Upload) -> None:
        self.check_space(upload.length)
        folder = upload.path.parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if sum(1 for _ in os.scandir(folder)) >= _FILES_MAX:
            raise StorageLimitError(413, f"a clip has at most {_FILES_MAX} files")
        os.close(os.open(upload.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))

    def _add(self, upload: Upload) -> None:
        self._bytes[upload.file.device] += max(upload.length, _FILE_BYTES_MIN)
        self._pending.setdefault(upload.file.key, {})[upload.file.name] = upload

    def drop(self, file: ClipFile) -> None:
        """Delete a pending file, if there is one."""
        upload = self._remove(file)
        if upload is not None:
            self._bytes[file.device] -= max(upload.length, _FILE_BYTES_MIN)
            upload.path.unlink(missing_ok=True)

    def _remove(self, file: ClipFile) -> Upload | None:
        files = self._pending.get(file.key, {})
        upload = files.pop(file.name, None)
        if not files:
            self._pending.pop(file.key, None)
        return upload

    async def complete(self, upload: Upload) -> None:
        """Flush a file whose bytes are all received, and give it its final name. Raises OSError."""
        await asyncio.to_thread(_complete, upload.path, self.path(upload.file))
        self._remove(upload.file)

    async def delete(self, key: ClipKey) -> None:
        """Delete all files of a clip."""
        for upload in self.pending(key):
            self.drop(upload.file)
        self._bytes[key.device] -= await asyncio.to_thread(_delete_folder, clip_folder(self._folder, key))
        self._clips[key.device].discard(key.clip)


def _complete(part: Path, path: Path) -> None:
    durable_files.sync(part)
    part.rename(path)
    for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
        durable_files.sync(folder)


def _delete_folder(folder: Path) -> int:
    """Delete a folder; return the bytes that its files counted for."""
    try:
        with os.scandir(folder) as entries:
            size = sum(max(entry.stat().st_size, _FILE_BYTES_MIN) for entry in entries)
    except FileNotFoundError:
        return 0
    shutil.rmtree(folder, True)
    return size
