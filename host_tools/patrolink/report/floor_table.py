"""The live view of talk groups' floors on a terminal."""

import time
from types import TracebackType
from typing import Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

_SOON_MS = 5000
_STYLES = {"idle": "dim", "taken": "cyan", "is stopped": "yellow", "EMERGENCY": "bold red"}


def state(group: dict[str, Any]) -> str:
    """Return a floor's state in a word."""
    if group["state"] == "idle":
        return "idle"
    if group["emergency"]:
        return "EMERGENCY"
    return "is stopped" if group["state"] == "pending revoke" else "taken"


def plain(text: str) -> str:
    """Names come from outside: they must not steer the terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


class Floors:
    """A context manager that shows one line a group, emergencies first; of private ones those that are in use."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._groups: dict[int, tuple[dict[str, Any], float]] = {}  # with our clock less the hub's, in ms
        self._live = Live(get_renderable=self.render, console=Console(), refresh_per_second=4)

    def __enter__(self) -> "Floors":
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def take(self, group: dict[str, Any]) -> None:
        """Take a group as the hub tells it."""
        self._groups[group["group"]] = group, time.monotonic() * 1000 - group["now_ms"]

    def drop(self, number: int) -> None:
        """A group has ended."""
        self._groups.pop(number, None)

    def render(self) -> Table:
        """Return the table as it stands."""
        table = Table(title=Text(self._title), box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for name in ("group", "floor", "who", "since", "left", "lost", "queue"):
            table.add_column(name, justify="right" if name in ("since", "left", "lost") else "left", overflow="fold")
        # A copy: the view redraws in a thread of its own.
        rows = [one for one in dict(self._groups).values() if one[0]["kind"] != "private" or one[0]["state"] != "idle"]
        for group, offset_ms in sorted(rows, key=lambda row: (state(row[0]) != "EMERGENCY", row[0]["group"])):
            style = _STYLES[state(group)]
            table.add_row(*(Text(plain(cell), style) for cell in _cells(group, time.monotonic() * 1000 - offset_ms)))
        return table


def _cells(group: dict[str, Any], now_ms: float) -> list[str]:
    name, queue = str(group["name"]), ", ".join(group["queue"])
    if group["state"] == "idle":
        return [name, "idle", "", "", "", "", queue]
    left = max(0.0, group["ends_ms"] - now_ms)
    packets, lost = group["packets"], group["lost"]
    return [
        name,
        state(group) + (", broadcast" if group["broadcast"] else ""),
        group["talker"],
        f"{(now_ms - group['since_ms']) / 1000:.0f} s",
        f"{left / 1000:.0f} s{'!' if left < _SOON_MS else ''}",
        f"{100 * lost / (packets + lost):.0f} %" if packets else "",
        queue,
    ]
