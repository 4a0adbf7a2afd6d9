"""Clips as dispatchers see them: rows for lists, and messages when a clip changes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from patrolink.hub.clips.clip_record import ClipKey, ClipRecord
from patrolink.hub.clips.clip_registry import ClipRegistry
from patrolink.hub.clips.upload_store import UploadStore
from patrolink.hub.infra.coalescer import Coalescer

_ROWS_PER_TURN = 50  # of a list, before other tasks run


class ClipFeed:
    """Rows and messages about clips.

    Args:
        registry: The clips.
        store: Their uploads.
        pictures: Whether this hub has the evidence key and can show pictures.
        notify: Sends a message to all dispatchers.
    """

    def __init__(
        self, registry: ClipRegistry, store: UploadStore, pictures: bool, notify: Callable[[dict[str, Any]], None]
    ) -> None:
        self._registry, self._store, self._pictures, self._notify = registry, store, pictures, notify
        self._progress = Coalescer[ClipKey](self._progress_rows, self._publish_row)
        self._missing = Coalescer[ClipKey](self._missing_rows, self._publish_row)

    def newest(self, limit: int) -> list[dict[str, Any]]:
        """Return rows of the newest clips; a number that a device skipped follows the next clip."""
        clips = self._registry.newest(limit)
        return [row for clip in clips for row in (self.row(clip), *self._missing_rows(clip.key))][:limit]

    async def rows(self) -> AsyncIterator[dict[str, Any]]:
        """Yield rows of all clips as `newest` does, with `files`: name and bytes. Other tasks run in between."""
        for n, clip in enumerate(self._registry.newest()):
            files = [{"name": name, "bytes": size} for name, size in sorted(clip.file_sizes.items())]
            yield {**self.row(clip), "files": files}
            for row in self._missing_rows(clip.key):
                yield {**row, "files": []}
            if n % _ROWS_PER_TURN == 0:
                await asyncio.sleep(0)

    def row(self, clip: ClipRecord) -> dict[str, Any]:
        """Return the row of a clip."""
        uploads = self._store.pending(clip.key)
        return clip.to_json(sum(upload.offset for upload in uploads) if uploads else None, self._pictures)

    def publish(self, clip: ClipRecord) -> None:
        """Send a clip's row to all dispatchers."""
        self._publish_row(self.row(clip))

    def publish_progress(self, key: ClipKey) -> None:
        """Send a clip's row within a second, together with others."""
        self._progress.add(key)

    def publish_missing(self, key: ClipKey) -> None:
        """Send the rows of the numbers missing before a clip within a second, together with others."""
        self._missing.add(key)

    def publish_deleted(self, clip: ClipRecord) -> None:
        """Tell dispatchers that retention deleted a clip."""
        self._notify({"type": "clip gone", "device": clip.device, "clip": clip.number})

    def _publish_row(self, row: dict[str, Any]) -> None:
        self._notify({"type": "clip", **row})

    def _progress_rows(self, key: ClipKey) -> list[dict[str, Any]]:
        clip = self._registry.get(key)
        return [self.row(clip)] if clip else []

    def _missing_rows(self, key: ClipKey) -> list[dict[str, Any]]:
        clip = self._registry.get(key)
        if clip is None:
            return []
        facts = {"device": clip.device, "state": "missing", "time_ms": clip.start_ms or None, "verdict": ""}
        return [{**facts, "clip": number} for number in self._registry.missing_before(clip)]
