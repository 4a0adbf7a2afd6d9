"""Records every burst: A-law in a WAV file or Opus in an Ogg file, and a JSON file with the same name.

The recorder keeps the encrypted packets in memory. After the burst, a writer (recording_writer.py) decrypts, orders and
writes them. Files are `<recordings>/<day>/<time>-<group>-<ssrc>.wav|.ogg|.json`, days and times in UTC. A
day is deleted as a whole, see infra/retention_ledger.py.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from patrolink.core.clock import Clock
from patrolink.core.errors import UserError
from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.infra.retention_ledger import DAY_MS, Item, RetentionLedger
from patrolink.hub.voice.bursts import RelayedBurst
from patrolink.hub.voice.floor_types import FloorEvent
from patrolink.hub.voice.groups import Group
from patrolink.hub.voice.recording_writer import PACKET_HEADER, SUFFIXES, RecordedBurst

_MAX_BYTES = 256 << 20  # of packets in memory
_LATE_S = 0.5  # after its end, the last packets of a burst arrive
_MAX_LISTED = 1000
_ID = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T[0-9]{6}[.][0-9]{3}Z-[0-9]+-[0-9a-f]{8}")


class RecordingWriter(Protocol):
    """Decrypts bursts and writes them to files: WriterProcess."""

    async def write(self, burst: RecordedBurst) -> dict[str, Any] | None:
        """Write a burst, and return its row; None if it holds no voice.

        Raises:
            OSError: The burst cannot be written.
            ValueError: The writer failed.
        """

    async def close(self) -> None:
        """End the writer when it has written everything."""


@dataclass(eq=False)
class _OpenBurst:
    group: Group
    talker: str
    ssrc: int
    indicator: int
    keys: list[GroupKey] = field(default_factory=list)
    packets: bytearray = field(default_factory=bytearray)  # one buffer: the garbage collector would visit objects
    ended: str = ""

    def add(self, index: int, key: GroupKey, packet: bytes | memoryview, arrival_ns: int) -> None:
        if not self.keys or self.keys[-1] is not key:
            self.keys.append(key)
        self.packets += PACKET_HEADER.pack(arrival_ns, index, len(self.keys) - 1, len(packet))
        self.packets += packet

    def finished(self) -> RecordedBurst:
        group = self.group
        return RecordedBurst(
            group.number, group.name, self.talker, self.ssrc, self.indicator, self.ended, self.keys, bytes(self.packets)
        )


class Recorder:
    """Recorder of a hub.

    Args:
        folder: Where recordings are written.
        ledger: Decides which days `purge` deletes.
        writer: Writes the bursts. The recorder closes it.
        on_recorded: Called with the row of each finished recording, on the event loop.
    """

    def __init__(
        self,
        folder: Path,
        ledger: RetentionLedger,
        writer: RecordingWriter,
        on_recorded: Callable[[dict[str, Any]], None],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._folder, self._ledger, self._on_recorded = folder, ledger, on_recorded
        self._writer, self._clock, self._metrics = writer, clock, metrics
        self._open: dict[int, _OpenBurst] = {}
        self._bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._rows: deque[dict[str, Any]] = deque(self._stored_rows(), maxlen=_MAX_LISTED)
        metrics.gauges["recording_bytes"] = self._buffered_bytes

    def _buffered_bytes(self) -> int:
        return self._bytes

    # --- bursts -------------------------------------------------------------------------------------------------------

    def begin(self, group: Group, event: FloorEvent) -> None:
        """Start to record the burst that an event begins."""
        assert event.member is not None
        self._open[event.ssrc] = _OpenBurst(group, event.member.name, event.ssrc, event.indicator)

    def voice_packet(
        self, burst: RelayedBurst, index: int, key: GroupKey, packet: bytes | memoryview, arrival_ns: int
    ) -> None:
        """Keep a packet of a burst that is being recorded; see VoiceSink."""
        open_burst = self._open.get(burst.ssrc)
        if open_burst is None:
            return
        if self._bytes > _MAX_BYTES:
            self._metrics.counts["recording_dropped"] += 1
            return
        self._bytes += PACKET_HEADER.size + len(packet)
        open_burst.add(index, key, packet, arrival_ns)

    def end(self, event: FloorEvent) -> None:
        """Finish the burst that an event ends. It is written when its last packets have arrived."""
        burst = self._open.get(event.ssrc)
        if burst is not None:
            burst.ended = event.cause
            self._finish_later(burst)

    def _finish_later(self, burst: _OpenBurst) -> None:
        task = asyncio.ensure_future(self._finish(burst))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _finish(self, burst: _OpenBurst) -> None:
        await asyncio.sleep(_LATE_S)
        self._open.pop(burst.ssrc, None)
        if not burst.packets:
            return
        try:
            row = await self._writer.write(burst.finished())
        except (OSError, ValueError):
            self._metrics.counts["recordings_failed"] += 1
            return
        finally:
            self._bytes -= len(burst.packets)
        if row is not None:
            self._metrics.counts["recordings"] += 1
            self._rows.append(row)
            self._on_recorded(row)

    async def close(self) -> None:
        """End all bursts, and wait until they are written."""
        for burst in self._open.values():
            if not burst.ended:
                burst.ended = "the hub ended"
                self._finish_later(burst)
        await asyncio.gather(*self._tasks)
        await self._writer.close()

    # --- recordings ---------------------------------------------------------------------------------------------------

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
