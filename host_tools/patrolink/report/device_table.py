"""The live view of devices on a terminal: events and errors, then a line of position and counts per device."""

import time
from collections import Counter
from dataclasses import dataclass, field

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from patrolink.core.capture import Record
from patrolink.core.decoder import DecoderStats, Row
from patrolink.core.text import plural
from patrolink.report.alerts import Alerts

_COLUMNS = ("device", "UTC", "position", "alt m", "km/h", "mode", "bat", "frames", "fixes", "refused", "age")
_WIDE = 90
_NARROW = 60
# Columns left out of a terminal that is narrower than the key.
_OMITTED = {_WIDE: ("alt m",), 80: ("mode", "frames", "fixes", "refused"), _NARROW: ("UTC", "km/h", "bat")}
_ALERTS_SHOWN = 8
# Anybody may invent device ids on an open broker: beyond this many, unverified devices count in the totals only.
_UNVERIFIED_MAX = 32


@dataclass
class _Device:
    latest: Row = field(default_factory=dict)
    received_s: float = 0.0
    frames: int = 0
    fixes: int = 0
    refused: int = 0


class DeviceTable:
    """A rich renderable; `rich.live.Live` shows it on a terminal.

    Args:
        title: line above the view; rich markup in it is shown, not interpreted.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._devices: dict[str, _Device] = {}
        self._alerts = Alerts()
        self._stats = DecoderStats()
        self._rejected: Counter[str] = Counter()

    def update(self, record: Record, rows: list[Row], stats: DecoderStats) -> None:
        """Show one frame.

        Args:
            record: the frame as received.
            rows: its rows; empty if it was refused or repeated.
            stats: the decoder's counts, this frame included.
        """
        reasons = stats.rejected - self._rejected
        self._stats, self._rejected = stats, Counter(stats.rejected)
        device = self._devices.get(record.device)
        if device is None:
            unverified = sum(d.frames == d.refused for d in self._devices.values())
            if reasons and unverified >= _UNVERIFIED_MAX:
                return
            device = self._devices[record.device] = _Device()
        device.frames += 1
        device.refused += bool(reasons)
        device.received_s = time.monotonic()
        for row in rows:
            if row["record"] == "position":
                device.fixes += 1
                device.latest = row
        self._alerts.add_rows(record, rows)
        # A device without any verified frame is marked in its line: anybody may claim to be it.
        if device.frames > device.refused:
            for reason in reasons:
                self._alerts.add_refusal(record, reason)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts of the view; no digit is cut in a terminal of 40 or more columns."""
        yield Text(self._title, style="italic")
        if len(self._alerts):
            yield self._alert_table(options.max_width)
        yield self._position_table(options.max_width)

    def _alert_table(self, width: int) -> Table:
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        for name in ("UTC", "device", "event or error", "state"):
            table.add_column(name, no_wrap=name != "device" and width >= _NARROW, overflow="fold")
        for alert in self._alerts.most_urgent(_ALERTS_SHOWN):
            cells = (Text(text) for text in (alert.time, alert.device, alert.kind, alert.state))
            table.add_row(*cells, style="bold red" if alert.is_emergency else "")
        return table

    def _position_table(self, width: int) -> Table:
        stats = self._stats
        refused = sum(stats.rejected.values())
        table = Table(
            caption=f"{plural(stats.frames, 'frame')}, {plural(stats.bytes, 'byte')}, "
            f"{stats.duplicates} repeated, {refused} refused",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0) if width >= _WIDE else 0,
            pad_edge=False,
            show_edge=False,
        )
        omitted = {name for limit, names in _OMITTED.items() if width < limit for name in names}
        shown = [i for i, name in enumerate(_COLUMNS) if name not in omitted]
        for name in (_COLUMNS[i] for i in shown):
            left = name in ("device", "position")
            # A long device id folds; every other column keeps its width.
            table.add_column(name, justify="left" if left else "right", no_wrap=name != "device", overflow="fold")
        # A copy: the live view redraws in another thread.
        for name, device in sorted(dict(self._devices).items()):
            cells = [name, *_cells(device)]
            table.add_row(*(cells[i] for i in shown))
        return table


def _cells(device: _Device) -> list[str]:
    row = device.latest
    speed = row.get("speed_mps")
    position = ""
    if row:
        position = "no fix" if row["lat_deg"] is None else f"{row['lat_deg']:.6f} {row['lon_deg']:.6f}"
    elif device.refused == device.frames:
        position = "unverified"
    return [
        (row.get("time") or "")[11:19],
        position,
        _number(row.get("alt_m")),
        "" if speed is None else f"{speed * 3.6:.1f}",
        {1: "none", 2: "2D", 3: "3D"}.get(row.get("mode", 0), ""),
        _number(row.get("battery_pct")),
        str(device.frames),
        str(device.fixes),
        str(device.refused),
        f"{time.monotonic() - device.received_s:.0f}",
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
