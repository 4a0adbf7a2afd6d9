"""The live view of devices on a terminal."""

import time
from dataclasses import dataclass, field
from types import TracebackType

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from patrolink.core.capture import Record
from patrolink.core.decoder import DecoderStats, Row

_COLUMNS = ("device", "UTC", "position", "alt m", "km/h", "mode", "bat", "frames", "fixes", "refused", "age")
_WIDE = 90  # below, altitude and spacing make room
# Anybody may invent device ids on an open broker: from here on strangers count in the totals only.
_MOST_STRANGERS = 32


@dataclass
class _Device:
    latest: Row = field(default_factory=dict)
    heard: float = 0.0
    frames: int = 0
    fixes: int = 0
    refused: int = 0


class DeviceTable:
    """A context manager that shows one line a device and the totals."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._devices: dict[str, _Device] = {}
        self._stats = DecoderStats()
        self._refused = 0
        console = Console()
        self._live = Live(get_renderable=lambda: self.render(console.width), console=console, refresh_per_second=4)

    def __enter__(self) -> "DeviceTable":
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def take(self, record: Record, rows: list[Row], stats: DecoderStats) -> None:
        """Take in one frame and its rows."""
        self._stats = stats
        refused = sum(stats.rejected.values())
        was_refused, self._refused = refused > self._refused, refused
        device = self._devices.get(record.device)
        if device is None:
            strangers = sum(d.frames == d.refused for d in list(self._devices.values()))
            if was_refused and strangers >= _MOST_STRANGERS:
                return
            device = self._devices[record.device] = _Device()
        device.frames += 1
        device.refused += was_refused
        device.heard = time.monotonic()
        for row in rows:
            if row["message"] == "position":
                device.fixes += 1
                device.latest = row

    def render(self, width: int) -> Table:
        """Return the table as it stands, for a terminal of so many columns; 80 hold a usual one."""
        stats = self._stats
        table = Table(
            title=Text(self._title),
            caption=f"{stats.frames} frames, {stats.bytes} bytes, {stats.duplicates} repeated, {self._refused} refused",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0) if width >= _WIDE else 0,
            pad_edge=False,
            show_edge=False,
        )
        shown = [i for i, name in enumerate(_COLUMNS) if width >= _WIDE or name != "alt m"]
        for name in (_COLUMNS[i] for i in shown):
            left = name in ("device", "position")
            # A long device id folds; everything else keeps its width.
            table.add_column(name, justify="left" if left else "right", no_wrap=name != "device", overflow="fold")
        # A copy: the view redraws in a thread of its own.
        for name, device in sorted(dict(self._devices).items()):
            cells = [name, *_cells(device)]
            table.add_row(*(cells[i] for i in shown))
        return table


def _cells(device: _Device) -> list[str]:
    row = device.latest
    speed = row.get("speed_mps")
    place = ""
    if row:
        place = "no fix" if row["lat_deg"] is None else f"{row['lat_deg']:.6f} {row['lon_deg']:.6f}"
    elif device.refused == device.frames:
        place = "unverified"
    return [
        (row.get("time") or "")[11:19],
        place,
        _text(row.get("alt_m")),
        "" if speed is None else f"{speed * 3.6:.1f}",
        {1: "none", 2: "2D", 3: "3D"}.get(row.get("mode", 0), ""),
        _text(row.get("battery_pct")),
        str(device.frames),
        str(device.fixes),
        str(device.refused),
        f"{time.monotonic() - device.heard:.0f}",
    ]


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
