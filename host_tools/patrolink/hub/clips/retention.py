"""Deletes clips that are older than the site's retention period."""

import asyncio
import contextlib

from patrolink.core.clock import Clock
from patrolink.core.errors import UserError
from patrolink.hub.clips.clip_access import ClipAccess
from patrolink.hub.clips.clip_feed import ClipFeed
from patrolink.hub.clips.clip_registry import ClipRegistry
from patrolink.hub.clips.upload_store import UploadStore

_DAY_MS = 86_400_000


class ClipRetention:
    """The retention of clips.

    Args:
        registry: The clips.
        store: Their files.
        access: Logs each deletion before it happens.
        feed: Tells dispatchers what was deleted.
        clock: The hub's clock.
    """

    def __init__(
        self,
        registry: ClipRegistry,
        store: UploadStore,
        access: ClipAccess,
        feed: ClipFeed,
        clock: Clock,
    ) -> None:
        self._registry, self._store, self._access, self._feed, self._clock = registry, store, access, feed, clock

    async def purge(self, days: int) -> None:
        """Delete clips with a verdict older than `days` that nobody preserved; OSError when storage fails.

        For a clip without a verdict the time of its last change counts.
        """
        now_ms = self._clock.unix_ms()
        for clip in self._registry.records():
            if clip.preserved or await asyncio.to_thread(clip.age_base_ms, now_ms) >= now_ms - days * _DAY_MS:
                continue
            with contextlib.suppress(UserError):  # a deletion that cannot be logged does not happen
                facts = {"device": clip.device, "clip": clip.number, "verdict": clip.verdict}
                await asyncio.to_thread(self._access.record, "retention", "deleted", **facts)
                self._registry.remove(clip)
                await asyncio.to_thread(self._registry.save_deleted)
                await self._store.delete(clip.key)
                self._feed.publish_deleted(clip)
