"""Every burst on storage: A-law as it came in a WAV, or Opus as it came in Ogg, and a JSON beside it.

The relay hands over encrypted packets; when the burst is over they go to a process (writer.py) that opens, orders and
writes them.
Files are `<recordings>/<day>/<time>-<group>-<ssrc>.wav|.ogg|.json`, days and times in UTC; a day goes when it is older
than the site's retention.
"""

import asyncio
import contextlib
import json
import pickle
import re
import shutil
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from patrolink.core.errors import UserError
from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.voice.floor_types import FloorEvent
from patrolink.hub.voice.groups import Group
from patrolink.hub.voice.recording_writer import HEAD, SUFFIXES, Burst

_MOST_BYTES = 256 << 20  # of packets in memory
_LATE_S = 0.5  # after its end a burst's last voice comes
_LISTED = 1000
_ID = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T[0-9]{6}[.][0-9]{3}Z-[0-9]+-[0-9a-f]{8}")


@dataclass(eq=False)
class _Open:
    group: Group
    talker: str
    ssrc: int
    indicator: int
    keys: list[GroupKey] = field(default_factory=list)
    packets: bytearray = field(default_factory=bytearray)  # no objects: the garbage collector would visit them all
    ended: str = ""

    def add(self, index: int, key: GroupKey, packet: bytes | memoryview, ns: int) -> None:
        if not self.keys or self.keys[-1] is not key:
            self.keys.append(key)
        self.packets += HEAD.pack(ns, index, len(self.keys) - 1, len(packet))
        self.packets += packet

    def burst(self) -> Burst:
        group = self.group
        return Burst(
            group.number, group.name, self.talker, self.ssrc, self.indicator, self.ended, self.keys, bytes(self.packets)
        )


class Recorder:
    """
    recorded  is handed what was recorded, on the event loop
    """

    def __init__(self, folder: Path, retention_days: int, metrics: Metrics) -> None:
        self._folder, self._days, self._metrics = folder, retention_days, metrics
        self.recorded: Callable[[dict[str, Any]], None] = lambda row: None
        self._open: dict[int, _Open] = {}
        self._bytes = 0
        self._writer: asyncio.subprocess.Process | None = None
        self._writing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._listed: deque[dict[str, Any]] = deque(self._kept(), maxlen=_LISTED)
        metrics.gauges["recording_bytes"] = lambda: self._bytes

    # --- bursts -------------------------------------------------------------------------------------------------------

    def begin(self, group: Group, event: FloorEvent) -> None:
        """A burst begins."""
        assert event.member is not None
        self._open[event.ssrc] = _Open(group, event.member.name, event.ssrc, event.indicator)

    def take(self, ssrc: int, index: int, key: GroupKey, packet: bytes | memoryview, ns: int) -> None:
        """Keep a packet of a burst that is on."""
        burst = self._open.get(ssrc)
        if burst is None:
            return
        if self._bytes > _MOST_BYTES:
            self._metrics.counts["recording_dropped"] += 1
            return
        self._bytes += HEAD.size + len(packet)
        burst.add(index, key, packet, ns)

    def end(self, event: FloorEvent) -> None:
        """A burst has ended: write it, once its last voice has come."""
        burst = self._open.get(event.ssrc)
        if burst is not None:
            burst.ended = event.cause
            task = asyncio.ensure_future(self._finish(burst))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _finish(self, burst: _Open) -> None:
        await asyncio.sleep(_LATE_S)
        self._open.pop(burst.ssrc, None)
        if not burst.packets:
            return
        try:
            row = await self._write(burst.burst())
        except (OSError, ValueError):
            self._metrics.counts["recordings_failed"] += 1
            return
        finally:
            self._bytes -= len(burst.packets)
        if row is not None:
            self._metrics.counts["recordings"] += 1
            self._listed.append(row)
            self.recorded(row)

    async def _write(self, burst: Burst) -> dict[str, Any] | None:
        """Have the writer write a burst and return what it says; OSError or ValueError when it cannot."""
        data = pickle.dumps(tuple(burst))
        async with self._writing:
            if self._writer is None or self._writer.returncode is not None:
                command = [sys.executable, "-m", "patrolink.hub.voice.recording_writer", str(self._folder)]
                pipe = asyncio.subprocess.PIPE
                self._writer = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
            source, answers = self._writer.stdin, self._writer.stdout
            assert source is not None and answers is not None
            source.write(len(data).to_bytes(4, "big") + data)
            await source.drain()
            row: dict[str, Any] | None = json.loads(await answers.readline())
        if row is not None and "error" in row:
            raise OSError(row["error"])
        return row

    async def close(self) -> None:
        """End what is on, and wait until all is written."""
        for burst in self._open.values():
            if not burst.ended:
                burst.ended = "the hub ended"
                self._tasks.add(asyncio.ensure_future(self._finish(burst)))
        await asyncio.gather(*self._tasks)
        if self._writer is not None and self._writer.stdin is not None:
            self._writer.stdin.close()
            await self._writer.wait()

    # --- what is there ------------------------------------------------------------------------------------------------

    def newest(self, group: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Return what was recorded, newest first."""
        rows = [row for row in reversed(self._listed) if group is None or row["group"] == group]
        return rows[:limit]

    def path(self, name: str) -> Path:
        """Return the sound file of a recording; UserError when there is none."""
        parts = _ID.fullmatch(name)
        if parts:
            for suffix in SUFFIXES.values():
                found = self._folder / "-".join(parts.groups()) / (name + suffix)
                if found.is_file():
                    return found
        raise UserError(f"no recording {name!r}; it may be older than {self._days} days")

    def _kept(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for day in sorted(self._folder.glob("????-??-??"), reverse=True):
            for path in sorted(day.glob("*.json"), reverse=True):
                with contextlib.suppress(OSError, ValueError):
                    rows.append(json.loads(path.read_bytes()))
                if len(rows) == _LISTED:
                    return rows[::-1]
        return rows[::-1]

    async def purge(self) -> None:
        """Remove the days that are older than the retention."""
        oldest = f"{datetime.now(timezone.utc) - timedelta(days=self._days):%Y-%m-%d}"
        gone = [day for day in self._folder.glob("????-??-??") if day.name < oldest]
        for day in gone:
            await asyncio.to_thread(shutil.rmtree, day, True)
            self._metrics.counts["recording_days_removed"] += 1
        while self._listed and self._listed[0]["start"] < oldest:
            self._listed.popleft()
