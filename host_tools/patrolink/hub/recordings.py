"""Recordings of bursts on storage: A-law in a WAV file or Opus in an Ogg file, and a JSON file with the same name.

Files are `<recordings>/<day>/<time>-<group>-<ssrc>.wav|.ogg|.json`, days and times in UTC. The recorder of the voice
writes them. A day is deleted as a whole, see infra/retention_ledger.py.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
from collections import deque
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from patrolink.core.clock import Clock
from patrolink.core.errors import UserError
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.retention_ledger import DAY_MS, Item, RetentionLedger
from patrolink.hub.voice.recording_writer import SUFFIXES

_MAX_LISTED = 1000
_ID = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T[0-9]{6}[.][0-9]{3}Z-[0-9]+-[0-9a-f]{8}")


class Recordings:
    """The recordings of a site.

    Args:
        folder: Where recordings are written.
        ledger: Decides which days `purge` deletes.
    """

    def __init__(self, folder: Path, ledger: RetentionLedger, clock: Clock, metrics: Metrics) -> None:
        self._folder, self._ledger, self._clock, self._metrics = folder, ledger, clock, metrics
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._rows: deque[dict[str, Any]] = deque(self._stored_rows(), maxlen=_MAX_LISTED)

    def add(self, row: dict[str, Any]) -> None:
        """Add the row of a new recording."""
        self._rows.append(row)

    def newest(self, group: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Return rows of recordings, newest first, of one group or of all."""
        rows = [row for row in reversed(self._rows) if group is None or row["group"] == group]
        return rows[:limit]

    def path(self, name: str) -> Path:
        """Return the sound file of a recording.

        Raises:
            UserError: There is no such recording.
        """
        parts = _ID.fullmatch(name)
        if parts:
            for suffix in SUFFIXES.values():
                path = self._folder / "-".join(parts.groups()) / (name + suffix)
                if path.is_file():
                    return path
        raise UserError(
            f"no recording {name!r}; use an id from the list of recordings, which are deleted after "
            f"{self._ledger.days} days"
        )

    def _stored_rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for day in sorted(self._folder.glob("????-??-??"), reverse=True):
            for path in sorted(day.glob("*.json"), reverse=True):
                with contextlib.suppress(OSError, ValueError):
                    rows.append(json.loads(path.read_bytes()))
                if len(rows) == _MAX_LISTED:
                    return rows[::-1]
        return rows[::-1]

    async def purge(self, running_ms: int) -> None:
        """Delete the days that are older than the retention.

        Args:
            running_ms: The hub's running time.

        Raises:
            OSError: Storage failed.
        """
        removed = await asyncio.to_thread(self._remove_days, running_ms)
        self._metrics.counts["recording_days_removed"] += len(removed)
        if removed:
            self._rows = deque((row for row in self._rows if row["start"][:10] not in removed), maxlen=_MAX_LISTED)

    def _remove_days(self, running_ms: int) -> list[str]:
        items = {}
        for day in self._folder.glob("????-??-??"):
            with contextlib.suppress(ValueError):  # not a folder of this program
                items[day.name] = Item(_end_of_day_ms(day.name), len(os.listdir(day)))
        removed = self._ledger.due(items, self._clock.unix_ms(), running_ms)
        for name in removed:
            shutil.rmtree(self._folder / name, True)
        self._ledger.save()  # afterwards: deletion may have to free the space
        return removed


def _end_of_day_ms(day: str) -> int:
    return int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=timezone.utc).timestamp()) * 1000 + DAY_MS
