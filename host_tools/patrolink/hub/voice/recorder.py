"""Records every burst. The recorder keeps the encrypted packets in memory until the burst has ended.

Then a writer (recording_writer.py) decrypts, orders and writes them; see recordings.py for the files.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from patrolink.hub.infra.crypto import GroupKey
from patrolink.hub.infra.metrics import Metrics
from patrolink.hub.voice.bursts import RelayedBurst
from patrolink.hub.voice.floor_types import FloorEvent
from patrolink.hub.voice.groups import Group
from patrolink.hub.voice.recording_writer import PACKET_HEADER, RecordedBurst

_MAX_BYTES = 256 << 20  # of packets in memory
_LATE_S = 0.5  # after its end, the last packets of a burst arrive


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
        writer: Writes the bursts. The recorder closes it.
        on_recorded: Called with the row of each finished recording, on the event loop.
    """

    def __init__(
        self, writer: RecordingWriter, on_recorded: Callable[[dict[str, Any]], None], metrics: Metrics
    ) -> None:
        self._writer, self._on_recorded, self._metrics = writer, on_recorded, metrics
        self._open: dict[int, _OpenBurst] = {}
        self._bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
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
            self._on_recorded(row)

    async def close(self) -> None:
        """End all bursts, and wait until they are written."""
        for burst in self._open.values():
            if not burst.ended:
                burst.ended = "the hub ended"
                self._finish_later(burst)
        await asyncio.gather(*self._tasks)
        await self._writer.close()
