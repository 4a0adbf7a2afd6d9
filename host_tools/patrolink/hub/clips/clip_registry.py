"""The clips that a hub knows, by device and number."""

import bisect
import contextlib
import heapq
from collections import defaultdict
from pathlib import Path

from patrolink.core.errors import UserError
from patrolink.hub.clips.clip_record import CLIPS_MAX, ClipKey, ClipRecord, clip_folder
from patrolink.hub.infra import persistence

_DELETED_FILE = "deleted.json"  # of each device the highest number that retention deleted
_MISSING_SHOWN_MAX = 100  # numbers between two clips


class ClipRegistry:
    """The records of all clips, in memory and on storage.

    Args:
        folder: The site's folder of clips; the records in it are loaded.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records: dict[ClipKey, ClipRecord] = {}
        self._numbers: dict[str, list[int]] = defaultdict(list)  # of each device, sorted
        for path in sorted(folder.glob("*/[0-9][0-9][0-9][0-9][0-9][0-9]")):
            self.record(path.parent.name, int(path.name)).restore()
        self._deleted: dict[str, int] = {}
        with contextlib.suppress(UserError):  # only used to hide numbers that retention deleted
            self._deleted = persistence.load_json(folder / _DELETED_FILE) or {}

    def __len__(self) -> int:
        return len(self._records)

    def records(self) -> list[ClipRecord]:
        """Return all records."""
        return list(self._records.values())

    def newest(self, limit: int | None = None) -> list[ClipRecord]:
        """Return records by start time, newest first; None for all."""
        count = len(self._records) if limit is None else limit
        return heapq.nlargest(count, self._records.values(), key=lambda clip: (clip.start_ms, clip.number))

    def get(self, key: ClipKey) -> ClipRecord | None:
        """Return a clip's record, None when there is none."""
        return self._records.get(key)

    def find(self, device: str, number: int) -> ClipRecord:
        """Return a clip's record; UserError when there is none."""
        clip = self._records.get(ClipKey(device, number))
        if clip is None:
            raise UserError(f"this hub has no clip {number} of {device!r}; list its clips")
        return clip

    def record(self, device: str, number: int) -> ClipRecord:
        """Return a clip's record; a new one when there is none."""
        key = ClipKey(device, number)
        clip = self._records.get(key)
        if clip is None:
            clip = self._records[key] = ClipRecord(device, number, clip_folder(self._folder, key))
            bisect.insort(self._numbers[device], number)
        return clip

    def is_full(self, device: str) -> bool:
        """Return whether a device has as many clips as it may have."""
        return len(self._numbers[device]) >= CLIPS_MAX

    def previous(self, clip: ClipRecord) -> ClipRecord | None:
        """Return the known clip of the device with the next lower number."""
        return self._neighbour(clip, -1)

    def following(self, clip: ClipRecord) -> ClipRecord | None:
        """Return the known clip of the device with the next higher number."""
        return self._neighbour(clip, 1)

    def _neighbour(self, clip: ClipRecord, step: int) -> ClipRecord | None:
        numbers = self._numbers[clip.device]
        index = bisect.bisect_left(numbers, clip.number) + step
        return self._records[ClipKey(clip.device, numbers[index])] if 0 <= index < len(numbers) else None

    def missing_before(self, clip: ClipRecord) -> range:
        """Return the numbers between a clip and the one before of which nothing has arrived; at most 100."""
        previous = self.previous(clip)
        if previous is None:
            return range(0)
        deleted = self._deleted.get(clip.device, -1)
        return range(max(previous.number, deleted, clip.number - 1 - _MISSING_SHOWN_MAX) + 1, clip.number)

    def remove(self, clip: ClipRecord) -> None:
        """Remove a clip that retention deletes."""
        del self._records[clip.key]
        self._numbers[clip.device].remove(clip.number)
        self._deleted[clip.device] = max(clip.number, self._deleted.get(clip.device, -1))

    def save_deleted(self) -> None:
        """Store the numbers that retention deleted. Blocks on storage. Raises OSError."""
        persistence.save_json(self._folder / _DELETED_FILE, dict(self._deleted))
