"""Every burst on storage: A-law as it came in a WAV, or Opus as it came in Ogg, and a JSON beside it.

The relay hands over encrypted packets; they are opened, put in order and written in a thread when the burst is over.
Files are `<recordings>/<day>/<time>-<group>-<ssrc>.wav|.ogg|.json`, days and times in UTC; a day goes when it is older
than the site's retention.
"""

import asyncio
import contextlib
import hashlib
import json
import re
import shutil
import struct
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from patrolink_protocol import mcptt, srtp

from patrolink.decoding import rfc3339
from patrolink.errors import UserError
from patrolink.hub.crypto import GroupKey
from patrolink.hub.floor import Event
from patrolink.hub.groups import Group
from patrolink.hub.metrics import Metrics

PCMA, OPUS = 8, 111
RATES = {PCMA: 8000, OPUS: 48_000}
_SUFFIXES = {PCMA: ".wav", OPUS: ".ogg"}
_CODECS = {PCMA: "pcma", OPUS: "opus"}
_SILENCE = 0xD5  # of A-law
_LONGEST_S = 3700  # of a burst: the longest talk time that a site may set
_MOST_BYTES = 256 << 20  # of packets in memory
_LATE_S = 0.5  # after its end a burst's last voice comes
_LISTED = 1000
_ID = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T[0-9]{6}[.][0-9]{3}Z-[0-9]+-[0-9a-f]{8}")

Packet = tuple[int, int, GroupKey, bytes]  # arrival in ns of unix time, index, key, as it came


@dataclass(eq=False)
class _Burst:
    group: Group
    talker: str
    ssrc: int
    indicator: int
    packets: list[Packet] = field(default_factory=list)
    ended: str = ""


class Recorder:
    """
    recorded  is handed what was recorded, on the event loop
    """

    def __init__(self, folder: Path, retention_days: int, metrics: Metrics) -> None:
        self._folder, self._days, self._metrics = folder, retention_days, metrics
        self.recorded: Callable[[dict[str, Any]], None] = lambda row: None
        self._open: dict[int, _Burst] = {}
        self._bytes = 0
        self._pool = ThreadPoolExecutor(1, "recorder")
        self._tasks: set[asyncio.Task[None]] = set()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._listed: deque[dict[str, Any]] = deque(self._kept(), maxlen=_LISTED)
        metrics.gauges["recording_bytes"] = lambda: self._bytes

    # --- bursts -------------------------------------------------------------------------------------------------------

    def begin(self, group: Group, event: Event) -> None:
        """A burst begins."""
        assert event.member is not None
        self._open[event.ssrc] = _Burst(group, event.member.name, event.ssrc, event.indicator)

    def take(self, ssrc: int, index: int, key: GroupKey, packet: bytes, ns: int) -> None:
        """Keep a packet of a burst that is on."""
        burst = self._open.get(ssrc)
        if burst is None:
            return
        if self._bytes > _MOST_BYTES:
            self._metrics.counts["recording_dropped"] += 1
            return
        self._bytes += len(packet)
        burst.packets.append((ns, index, key, packet))

    def end(self, event: Event) -> None:
        """A burst has ended: write it, once its last voice has come."""
        burst = self._open.get(event.ssrc)
        if burst is not None:
            burst.ended = event.cause
            task = asyncio.ensure_future(self._finish(burst))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _finish(self, burst: _Burst) -> None:
        await asyncio.sleep(_LATE_S)
        self._open.pop(burst.ssrc, None)
        if not burst.packets:
            return
        try:
            row = await asyncio.get_running_loop().run_in_executor(self._pool, write, self._folder, burst)
        except OSError:
            self._metrics.counts["recordings_failed"] += 1
            return
        finally:
            self._bytes -= sum(len(packet[3]) for packet in burst.packets)
        if row is not None:
            self._metrics.counts["recordings"] += 1
            self._listed.append(row)
            self.recorded(row)

    async def close(self) -> None:
        """End what is on, and wait until all is written."""
        for burst in self._open.values():
            if not burst.ended:
                burst.ended = "the hub ended"
                self._tasks.add(asyncio.ensure_future(self._finish(burst)))
        await asyncio.gather(*self._tasks)
        self._pool.shutdown()

    # --- what is there ------------------------------------------------------------------------------------------------

    def newest(self, group: int | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Return what was recorded, newest first."""
        rows = [row for row in reversed(self._listed) if group is None or row["group"] == group]
        return rows[:limit]

    def path(self, name: str) -> Path:
        """Return the sound file of a recording; UserError when there is none."""
        parts = _ID.fullmatch(name)
        if parts:
            for suffix in _SUFFIXES.values():
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
            await asyncio.get_running_loop().run_in_executor(self._pool, shutil.rmtree, day, True)
            self._metrics.counts["recording_days_removed"] += 1
        while self._listed and self._listed[0]["start"] < oldest:
            self._listed.popleft()


def write(folder: Path, burst: _Burst) -> dict[str, Any] | None:
    """Write a burst and return what its JSON says; None when no voice was in it."""
    opened = _opened(burst.packets)
    if not opened:
        return None
    kind = opened[0][1]
    voice = [packet for packet in opened if packet[1] == kind]
    start_ms = voice[0][0] // 1_000_000
    start = rfc3339(start_ms)
    assert start is not None
    day = folder / start[:10]
    day.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = f"{start.replace('-', '').replace(':', '')}-{burst.group.number}-{burst.ssrc:08x}"
    sound = day / (name + _SUFFIXES[kind])
    samples = _wav(sound, voice) if kind == PCMA else _ogg(sound, voice)
    indices = [index for _, index, _, _ in burst.packets]
    row = {
        "id": name,
        "group": burst.group.number,
        "group_name": burst.group.name,
        "talker": burst.talker,
        "ssrc": burst.ssrc,
        "start": start,
        "duration_ms": samples * 1000 // RATES[kind],
        "packets": len(indices),
        "lost": max(indices) - min(indices) + 1 - len(indices),
        "jitter_ms": _jitter_ms(voice, RATES[kind]),
        "codec": _CODECS[kind],
        "emergency": bool(burst.indicator & mcptt.EMERGENCY),
        "broadcast": bool(burst.indicator & mcptt.BROADCAST),
        "ended": burst.ended,
        "sha256": hashlib.sha256(sound.read_bytes()).hexdigest(),
    }
    sound.with_suffix(".json").write_text(json.dumps(row) + "\n", encoding="utf-8")
    return row


Opened = tuple[int, int, int, bytes]  # arrival in ns, payload type, samples since the first packet, payload


def _opened(packets: list[Packet]) -> list[Opened]:
    """Return the packets that hold voice of a kind that we know, in order."""
    contexts: dict[GroupKey, srtp.Rtp] = {}
    found: list[Opened] = []
    first: int | None = None
    for ns, index, key, packet in sorted(packets, key=lambda p: p[1]):
        context = contexts.get(key) or contexts.setdefault(key, key.rtp())
        buf = bytearray(packet)
        n = context.decrypt(buf, len(buf), index)
        kind = buf[1] & 0x7F
        payload = bytes(buf[srtp.payload(buf, n) : n])
        stamp = int.from_bytes(buf[4:8], "big")
        first = stamp if first is None else first
        offset = (stamp - first) & 0xFFFFFFFF
        if kind in RATES and payload and offset < _LONGEST_S * RATES[kind]:
            found.append((ns, kind, offset, payload))
    return found


def _jitter_ms(voice: list[Opened], rate: int) -> float:
    """Return the interarrival jitter (RFC 3550 6.4.1)."""
    jitter = 0.0
    for before, after in zip(voice, voice[1:], strict=False):
        passed = (after[0] - before[0]) / 1e6 - (after[2] - before[2]) * 1000 / rate
        jitter += (abs(passed) - jitter) / 16
    return round(jitter, 2)


def _wav(path: Path, voice: list[Opened]) -> int:
    """Write A-law (WAVE format 6) with silence where packets were lost; return how many samples."""
    samples = bytearray([_SILENCE]) * max(offset + len(payload) for _, _, offset, payload in voice)
    for _, _, offset, payload in voice:
        samples[offset : offset + len(payload)] = payload
    n = len(samples)
    head = b"WAVEfmt " + struct.pack("<IHHIIHHH", 18, 6, 1, 8000, 8000, 1, 8, 0)
    head += b"fact" + struct.pack("<II", 4, n) + b"data" + struct.pack("<I", n)
    pad = n & 1
    path.write_bytes(b"RIFF" + struct.pack("<I", len(head) + n + pad) + head + samples + bytes(pad))
    return n


def _ogg(path: Path, voice: list[Opened]) -> int:
    """Write Opus packets as they came (RFC 7845); return how many samples."""
    from fractions import Fraction

    import av

    samples = 0
    with av.open(str(path), "w", format="ogg") as out:
        stream = out.add_stream("libopus", rate=RATES[OPUS])
        stream.layout = "mono"
        for _, _, offset, payload in voice:
            packet = av.Packet(payload)
            packet.stream = stream
            packet.time_base = Fraction(1, RATES[OPUS])
            packet.pts = packet.dts = offset
            packet.duration = opus_samples(payload)
            out.mux(packet)
            samples = max(samples, offset + packet.duration)
    return samples


def opus_samples(packet: bytes) -> int:
    """Return the length of an Opus packet in samples at 48 kHz (RFC 6716 3.1)."""
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        frame = (480, 960)[config & 1]
    else:
        frame = (120, 240, 480, 960)[config & 3]
    frames = (1, 2, 2, packet[1] & 63 if len(packet) > 1 else 0)[code]
    return frame * frames
