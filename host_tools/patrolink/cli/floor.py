"""Watch the floors of a running hub: which group is taken, by whom, for how long, and who is queued.

On a terminal it shows a live table; otherwise it prints a line per change. The token
is read from PATROLINK_HUB_TOKEN. Watching does not join any group.
"""

import argparse
import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from patrolink.cli._arguments import non_negative_seconds, positive_count
from patrolink.core import notes, signals
from patrolink.core.json_lines import print_record, print_summary
from patrolink.core.signals import StopSignal
from patrolink.core.text import plural, printable
from patrolink.core.timeouts import wait_for

if TYPE_CHECKING:
    from patrolink.hub.dispatch.client import ConsoleClient
    from patrolink.report.floor_table import FloorTable

EXAMPLES = (
    "patrolink floor --hub http://127.0.0.1:8080",
    "patrolink floor --count 10 --json",
)
_CHANGE_KEYS = ("name", "state", "ssrc", "talker", "emergency", "broadcast", "queue")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to a parser."""
    parser.add_argument("--hub", default="http://127.0.0.1:8080", metavar="URL", help="address of the hub's console")
    parser.add_argument(
        "--for", dest="seconds", type=non_negative_seconds, metavar="SECONDS", help="stop after this time"
    )
    parser.add_argument("--count", type=positive_count, metavar="N", help="stop after N changes")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    watcher = FloorWatcher(args.count, args.json)
    with contextlib.suppress(StopSignal):
        signals.run(watcher.run(args.hub, args.seconds))
    if args.json:
        print_summary({"changes": watcher.changes})
    else:
        notes.note(plural(watcher.changes, "change"))
    return 0


class FloorWatcher:
    """Shows the floors of a hub until enough changes have happened.

    Args:
        max_changes: Number of changes, or None.
        as_json: Print the floors as JSON Lines.

    Attributes:
        changes: Number of changes since the start.
    """

    def __init__(self, max_changes: int | None, as_json: bool) -> None:
        self.changes = 0
        self._max_changes, self._json = max_changes, as_json
        self._shown: dict[int, tuple[str, ...]] = {}

    async def run(self, hub: str, duration_s: float | None) -> None:
        """Watch until there were enough changes, or the time is over.

        Args:
            hub: Address of the hub's console.
            duration_s: Time from the connection, or None.
        """
        from rich.live import Live

        from patrolink.hub.dispatch.client import connect
        from patrolink.report.floor_table import FloorTable

        async with connect(hub) as client:
            table = FloorTable(client.hello["site"])
            on_terminal = not self._json and sys.stdout.isatty()
            view = Live(table, refresh_per_second=4) if on_terminal else contextlib.nullcontext()
            with view, contextlib.suppress(asyncio.TimeoutError):
                await wait_for(self._watch(client, table, on_terminal), duration_s)

    async def _watch(self, client: "ConsoleClient", table: "FloorTable", on_terminal: bool) -> None:
        for group in client.hello["groups"]:
            table.update(group)
            self._is_change(group)
            if not on_terminal and group["state"] != "idle":
                self._print(group)
        while self._max_changes is None or self.changes < self._max_changes:
            message = await client.next_message()
            if not isinstance(message, dict):
                continue
            if message["type"] == "gone":
                table.remove(message["group"])
            elif message["type"] in ("floor", "group"):
                table.update(message)
                if self._is_change(message):
                    self.changes += 1
                    if not on_terminal:
                        self._print(message)

    def _is_change(self, group: dict[str, Any]) -> bool:
        """Return True if a group differs from what was shown; members and times do not count."""
        values = tuple(str(group[key]) for key in _CHANGE_KEYS)
        changed = self._shown.get(group["group"]) != values
        self._shown[group["group"]] = values
        return changed

    def _print(self, group: dict[str, Any]) -> None:
        from patrolink.report.floor_table import floor_label

        if self._json:
            fields = {key: group[key] for key in _CHANGE_KEYS if key != "name"}
            print_record("floor", {"group": group["group"], "group_name": group["name"], **fields})
            return
        queue = f", queued: {', '.join(group['queue'])}" if group["queue"] else ""
        line = f"{group['name']}: {floor_label(group)} {group['talker'] or ''}".rstrip() + queue
        print(printable(line), flush=True)
