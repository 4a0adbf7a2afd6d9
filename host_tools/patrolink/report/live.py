"""The live view of devices on a terminal."""

import time
from types import TracebackType

from rich.live import Live
from rich.table import Table as RichTable

from patrolink.capture import Record
from patrolink.decoding import Row, Stats


class Table:
    """A context manager that shows one line a device and the totals."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._latest: dict[str, Row] = {}
        self._fixes: dict[str, int] = {}
        self._heard: dict[str, float] = {}
        self._stats = Stats()
        self._live = Live(get_renderable=self._render, refresh_per_second=4)

    def __enter__(self) -> "Table":
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def take(self, record: Record, rows: list[Row], stats: Stats) -> None:
        """Take in one frame and its rows."""
        self._stats = stats
        if not rows:
            return
        device = record.device
        self._heard[device] = time.monotonic()
        self._fixes.setdefault(device, 0)
        for row in rows:
            if row["message"] == "position":
                self._fixes[device] += 1
                self._latest[device] = row

    def _render(self) -> RichTable:
        stats = self._stats
        refused = sum(stats.rejected.values())
        table = RichTable(
            title=self._title,
            caption=f"{stats.frames} frames, {stats.bytes} bytes, {stats.duplicates} repeated, {refused} refused",
        )
        for name in ("device", "time (UTC)", "position", "alt m", "km/h", "mode", "battery", "fixes", "age s"):
            table.add_column(name, justify="left" if name in ("device", "position") else "right")
        for device in sorted(self._heard):
            row = self._latest.get(device, {})
            speed = row.get("speed_mps")
            place = f"{row['lat_deg']:.6f} {row['lon_deg']:.6f}" if row.get("lat_deg") is not None else "no fix"
            table.add_row(
                device,
                (row.get("time") or "")[11:19],
                place,
                _text(row.get("alt_m")),
                "" if speed is None else f"{speed * 3.6:.1f}",
                {1: "none", 2: "2D", 3: "3D"}.get(row.get("mode", 0), ""),
                _text(row.get("battery_pct")),
                str(self._fixes.get(device, 0)),
                f"{time.monotonic() - self._heard[device]:.0f}",
            )
        return table


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
