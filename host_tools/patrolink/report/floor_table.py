"""Live table of talk groups' floors for a terminal."""

import time
from typing import Any, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from patrolink.core.text import printable

_ENDING_MS = 5000
_STYLES = {"idle": "dim", "taken": "cyan", "revoked": "yellow", "EMERGENCY": "bold red"}
_COLUMNS = ("group", "floor", "talker", "time", "left", "lost", "queue")
_NUMERIC_COLUMNS = ("time", "left", "lost")


def floor_label(group: dict[str, Any]) -> str:
    """Return a word for the state of a group's floor."""
    if group["state"] == "idle":
        return "idle"
    if group["emergency"]:
        return "EMERGENCY"
    return "revoked" if group["state"] == "pending revoke" else "taken"


class _Row(NamedTuple):
    group: dict[str, Any]
    clock_offset_ms: float  # of our clock to the hub's


class FloorTable:
    """A rich renderable with one line per group, emergencies first; private groups only while in use.

    Args:
        title: Title of the table.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._rows: dict[int, _Row] = {}

    def update(self, group: dict[str, Any]) -> None:
        """Add or update a group from the hub's message."""
        self._rows[group["group"]] = _Row(group, time.monotonic() * 1000 - group["now_ms"])

    def remove(self, number: int) -> None:
        """Remove a group."""
        self._rows.pop(number, None)

    def __rich__(self) -> Table:
        """Return the current table."""
        table = Table(title=Text(self._title), box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for name in _COLUMNS:
            table.add_column(name, justify="right" if name in _NUMERIC_COLUMNS else "left", overflow="fold")
        rows = list(dict(self._rows).values())  # copied: rich renders in another thread
        shown = [row for row in rows if row.group["kind"] != "private" or row.group["state"] != "idle"]
        for group, offset_ms in sorted(shown, key=_sort_key):
            style = _STYLES[floor_label(group)]
            cells = _cells(group, time.monotonic() * 1000 - offset_ms)
            table.add_row(*(Text(printable(cell), style) for cell in cells))
        return table


def _sort_key(row: _Row) -> tuple[bool, int]:
    return floor_label(row.group) != "EMERGENCY", row.group["group"]


def _cells(group: dict[str, Any], now_ms: float) -> list[str]:
    name, queue = str(group["name"]), ", ".join(group["queue"])
    if group["state"] == "idle":
        return [name, "idle", "", "", "", "", queue]
    left_ms = max(0.0, group["ends_ms"] - now_ms)
    packets, lost = group["packets"], group["lost"]
    return [
        name,
        floor_label(group) + (", broadcast" if group["broadcast"] else ""),
        group["talker"],
        f"{(now_ms - group['since_ms']) / 1000:.0f} s",
        f"{left_ms / 1000:.0f} s{'!' if left_ms < _ENDING_MS else ''}",
        f"{100 * lost / (packets + lost):.0f} %" if packets else "",
        queue,
    ]
