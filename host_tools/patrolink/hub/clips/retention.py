"""Deletes clips that are older than the site's retention period."""

import asyncio
import contextlib

from patrolink.core.clock import Clock
from patrolink.core.errors import UserError
from patrolink.hub.clips.clip_access import ClipAccess
from patrolink.hub.clips.clip_feed import ClipFeed
from patrolink.hub.clips.clip_record import ClipRecord
from patrolink.hub.clips.clip_registry import ClipRegistry
from patrolink.hub.clips.upload_store import UploadStore
from patrolink.hub.infra.retention_ledger import Item, RetentionLedger


class ClipRetention:
    """The retention of clips.

    Args:
        registry: The clips.
        store: Their files.
        ledger: Decides which clips are deleted.
        access: Logs each deletion before it happens.
        feed: Tells dispatchers what was deleted.
        clock: The hub's clock.
    """

    def __init__(
        self,
        registry: ClipRegistry,
        store: UploadStore,
        ledger: RetentionLedger,
        access: ClipAccess,
        feed: ClipFeed,
        clock: Clock,
    ) -> None:
        self._registry, self._store, self._ledger = registry, store, ledger
        self._access, self._feed, self._clock = access, feed, clock

    async def purge(self, running_ms: int) -> None:
        """Delete clips that are older than the retention and that nobody preserved; OSError when storage fails.

        For a clip without a verdict the time of its last change counts.

        Args:
            running_ms: The hub's running time.
        """
        for clip in await asyncio.to_thread(self._due, self._registry.records(), running_ms):
            if clip.preserved:  # meanwhile
                continue
            with contextlib.suppress(UserError):  # a deletion that cannot be logged does not happen
                facts = {"device": clip.device, "clip": clip.number, "verdict": clip.verdict}
                await asyncio.to_thread(self._access.record, "retention", "deleted", **facts)
                self._registry.remove(clip)
                await asyncio.to_thread(self._registry.save_deleted)
                await self._store.delete(clip.key)
                self._feed.publish_deleted(clip)
        await asyncio.to_thread(self._ledger.save)

    def _due(self, clips: list[ClipRecord], running_ms: int) -> list[ClipRecord]:
        times = {clip: clip.age_base_ms() for clip in clips if not clip.preserved}
        by_name = {f"{clip.device}/{clip.number}": (clip, time_ms) for clip, time_ms in times.items()}
        items = {name: Item(time_ms, time_ms) for name, (_, time_ms) in by_name.items() if time_ms is not None}
        return [by_name[name][0] for name in self._ledger.due(items, self._clock.unix_ms(), running_ms)]
