"""Files of clips that are coming, as they lie on storage, and the room that each device may take.

A file on its way is `<clips>/<device>/<clip>/<name>.<bytes>.<sha256>.part`: what is there tells how far it is, over
any restart. A file that has come has its name, and nothing is ever put in its place.
"""

import asyncio
import os
import re
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from patrolink.hub.infra import persistence

_PART = re.compile(r"([0-9]{6}\.plm|[0-9]{6}-[0-9]{6}\.pls)\.([0-9]{1,10})\.([0-9a-f]{64})\.part")
_FILES = 4096  # of a clip
_COMING = 64  # files of a device at once
_COMING_CLIPS = 16  # that those belong to
_CLIPS = 20_000  # of a device
_LEAST = 1 << 14  # bytes that a file counts at least: small ones take inodes and memory
_SPARE = 1 << 28  # bytes that the file system keeps for all else

Place = tuple[str, int, str]  # device, clip, name


class NoRoom(Exception):
    """A file finds no room; the text says what is full.

    status  of HTTP: 507, or 429 when others have to come whole first, or 413 when there is none for it ever
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(eq=False)
class Upload:
    """A file that is coming; offset: bytes of it that are here."""

    place: Place
    length: int
    sha256: str
    path: Path
    offset: int = 0


class Incoming:
    """Methods that wait have to be called for one request of a device at a time."""

    def __init__(self, folder: Path, most: int) -> None:
        """`most`: bytes of one device."""
        self._folder, self._most = folder, most
        self._coming: dict[tuple[str, int], dict[str, Upload]] = {}
        self._bytes: dict[str, int] = defaultdict(int)  # of each device, what is coming counted whole
        self._clips: dict[str, set[int]] = defaultdict(set)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in folder.glob("*/[0-9][0-9][0-9][0-9][0-9][0-9]"):
            self._clips[path.parent.name].add(int(path.name))
            with os.scandir(path) as entries:
                for entry in entries:
                    self._found(path, entry)

    def _found(self, folder: Path, entry: "os.DirEntry[str]") -> None:
        device, size = folder.parent.name, entry.stat().st_size
        part = _PART.fullmatch(entry.name)
        if part is not None and size <= int(part[2]):
            place = device, int(folder.name), part[1]
            self._take_up(Upload(place, int(part[2]), part[3], folder / entry.name, size))
        else:
            self._bytes[device] += max(size, _LEAST)

    def path(self, place: Place) -> Path:
        """Return where a file is once it has come."""
        return self._folder / place[0] / f"{place[1]:06d}" / place[2]

    def get(self, place: Place) -> Upload | None:
        """Return a file that is coming."""
        return self._coming.get(place[:2], {}).get(place[2])

    def of(self, device: str, clip: int) -> list[tuple[str, int, int]]:
        """Return (name, bytes here, bytes) of a clip's files that are coming."""
        return [(name, it.offset, it.length) for name, it in self._coming.get((device, clip), {}).items()]

    def room(self, size: int) -> None:
        """NoRoom when storage has none for so many bytes, with what all else needs; OSError."""
        if shutil.disk_usage(self._folder).free < size + _SPARE:
            raise NoRoom(507, "the hub's storage is full")

    async def begin(self, place: Place, length: int, sha256: str) -> Upload:
        """Make room for a file; one of that name with other bytes, that had not come whole, goes. NoRoom, OSError."""
        device, clip, name = place
        self.drop(place)
        coming = [(key[1], len(files)) for key, files in self._coming.items() if key[0] == device]
        if len({number for number, _ in coming} | {clip}) > _COMING_CLIPS:
            raise NoRoom(429, f"{_COMING_CLIPS} clips are on their way already; end them first")
        if sum(n for _, n in coming) >= _COMING:
            raise NoRoom(429, f"{_COMING} files are on their way already; end them first")
        if self._bytes[device] + max(length, _LEAST) > self._most or len(self._clips[device] | {clip}) > _CLIPS:
            raise NoRoom(507, f"the clips of {device} take all that the site allows (clips_gb)")
        path = self.path(place)
        upload = Upload(place, length, sha256, path.with_name(f"{name}.{length}.{sha256}.part"))
        await asyncio.to_thread(self._make, upload)
        self._clips[device].add(clip)
        self._take_up(upload)
        return upload

    def _make(self, upload: Upload) -> None:
        self.room(upload.length)
        folder = upload.path.parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if sum(1 for _ in os.scandir(folder)) >= _FILES:
            raise NoRoom(413, f"a clip has at most {_FILES} files")
        os.close(os.open(upload.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))

    def _take_up(self, upload: Upload) -> None:
        self._bytes[upload.place[0]] += max(upload.length, _LEAST)
        self._coming.setdefault(upload.place[:2], {})[upload.place[2]] = upload

    def drop(self, place: Place) -> None:
        """Forget a file that was coming, and delete what is here of it."""
        upload = self._forget(place)
        if upload is not None:
            self._bytes[place[0]] -= max(upload.length, _LEAST)
            upload.path.unlink(missing_ok=True)

    def _forget(self, place: Place) -> Upload | None:
        files = self._coming.get(place[:2], {})
        upload = files.pop(place[2], None)
        if not files:
            self._coming.pop(place[:2], None)
        return upload

    async def settle(self, upload: Upload) -> None:
        """Give a whole file its name, for good. OSError."""
        await asyncio.to_thread(_settle, upload.path, self.path(upload.place))
        self._forget(upload.place)

    async def delete(self, device: str, clip: int) -> None:
        """Delete all of a clip."""
        for name in list(self._coming.get((device, clip), {})):
            self.drop((device, clip, name))
        self._bytes[device] -= await asyncio.to_thread(_remove, self._folder / device / f"{clip:06d}")
        self._clips[device].discard(clip)


def _settle(path: Path, name: Path) -> None:
    persistence.sync(path)
    path.rename(name)
    for folder in (name.parent, name.parent.parent, name.parent.parent.parent):
        persistence.sync(folder)


def _remove(folder: Path) -> int:
    """Delete a folder and return what its files count."""
    try:
        with os.scandir(folder) as entries:
            size = sum(max(entry.stat().st_size, _LEAST) for entry in entries)
    except FileNotFoundError:
        return 0
    shutil.rmtree(folder, True)
    return size
