"""Shows a run of `patrolink flash`: one live line for each device on a terminal, else one line for each change."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from patrolink.core import notes
from patrolink.core.text import printable
from patrolink.flash.device_flow import State
from patrolink.flash.fleet import Device

if TYPE_CHECKING:
    from rich.table import Table

_REFRESH_PER_S = 8


def line(device: Device) -> str:
    """Return the state of a device as one line."""
    identity = f" {device.identity.unique_id}" if device.identity and device.identity.unique_id else ""
    row = f" {device.assignment.device}" if device.assignment else ""
    parts = [f"{device.path}{identity}{row}: {device.state.value}"]
    if device.state in (State.PLANNED, State.UNCHANGED) and device.plan:
        parts.append(device.plan.text)
    if device.reason:
        parts.append(device.reason)
    return printable(": ".join(parts))


@contextlib.contextmanager
def shown(devices: list[Device]) -> Iterator[None]:
    """Show the live lines of devices on standard error while the context is open; nothing unless it is a terminal."""
    if not is_live():
        yield
        return
    from rich.console import Console
    from rich.live import Live

    # Data on standard output must not be redirected to the console of the table.
    with Live(
        get_renderable=lambda: _table(devices),
        console=Console(stderr=True),
        refresh_per_second=_REFRESH_PER_S,
        redirect_stdout=False,
        redirect_stderr=False,
    ):
        yield


def is_live() -> bool:
    """Return whether standard error is a terminal that can move its cursor, and notes are on."""
    terminal = sys.stderr is not None and sys.stderr.isatty()
    return terminal and not notes.is_quiet() and os.environ.get("TERM") not in ("dumb", "unknown")


def report_change(device: Device) -> None:
    """Print the state of a device after a change, unless live lines show it."""
    if not is_live():
        notes.note(line(device))


def _table(devices: list[Device]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("port", "id", "device", "board", "usb serial", "state", "", "KB/s", "note"):
        table.add_column(title, justify="right" if title in ("", "KB/s") else "left", no_wrap=title != "note")
    for device in devices:
        identity = device.identity
        board = (identity.board or identity.chip) if identity else ""
        style = "green" if device.good else "red" if device.state in (State.FAILED, State.REFUSED) else ""
        cells = (
            *(device.path, identity.unique_id if identity else ""),
            *(device.assignment.device if device.assignment else "", board, device.port.usb_serial),
            *(device.state.value, _percent(device), _speed(device), device.reason),
        )
        table.add_row(*(Text(printable(cell), style=style if i == 5 else "") for i, cell in enumerate(cells)))
    return table


def _percent(device: Device) -> str:
    return f"{100 * device.done_bytes // device.total_bytes} %" if device.total_bytes else ""


def _speed(device: Device) -> str:
    seconds = time.monotonic() - device.step_s
    return f"{device.done_bytes / 1000 / seconds:.1f}" if device.done_bytes and seconds > 0 else ""
