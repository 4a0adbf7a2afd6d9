"""Patrols on one or many emulated boards at once, in real time, with one broker."""

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from rich.live import Live

from patrolink.core import boards, notes
from patrolink.core.capture import Record
from patrolink.core.decoder import DecoderStats, Row
from patrolink.core.errors import UserError
from patrolink.core.signals import StopSignal, stop_deferred
from patrolink.emulator.boards import qemu
from patrolink.emulator.network.broker import Broker
from patrolink.emulator.scenarios.patrol import Patrol, Plan
from patrolink.report.device_table import DeviceTable
from patrolink.transport.mqtt import MqttTransport

_PROGRESS_S = 10.0
_SUMMED = ("fixes_sent", "fixes_decoded", "fixes_lost", "fixes_duplicated", "frames", "reconnects", "uart_overruns")


@dataclass
class Outcome:
    """Completed patrols, and the errors of the others.

    stopped     the signal that ended the run early
    unfinished  device -> its progress when the run was stopped
    """

    patrols: list[Patrol] = field(default_factory=list)
    failures: dict[str, UserError] = field(default_factory=dict)
    broker: str = ""
    duration_s: float = 0.0
    stopped: StopSignal | None = None
    unfinished: dict[str, str] = field(default_factory=dict)

    @property
    def summaries(self) -> list[dict[str, Any]]:
        """Summary of each completed patrol."""
        return [{**patrol.summary, "broker": self.broker} for patrol in self.patrols]

    def total(self) -> dict[str, Any]:
        """Return the sums over all boards."""
        sums = {name: sum(patrol.summary[name] or 0 for patrol in self.patrols) for name in _SUMMED}
        count = len(self.patrols) + len(self.failures)
        return {"boards": count, "failed": len(self.failures), **sums, "duration_s": self.duration_s}


def names(first: str, count: int) -> list[str]:
    """Return the ids of `count` devices: the number at the end of the first id counts up."""
    if count == 1:
        return [first]
    stem, digits = re.fullmatch(r"(?s)(.*?)(\d*)", first).groups()  # type: ignore[union-attr]
    begin = int(digits or 1)
    return [f"{stem}{n:0{len(digits)}d}" for n in range(begin, begin + count)]


def run(plan: Plan) -> Outcome:
    """Run all patrols of the plan.

    The error of a single board is raised; of several boards, a failed one ends alone and is listed in the outcome.
    """
    outcome = Outcome()
    start_s = time.monotonic()
    plan.check()
    board = boards.find(plan.board)
    if board.image:
        qemu.build_image(board)  # build before anything starts: it may take a minute, or a tool may be missing
    running: dict[str, Patrol] = {}
    with contextlib.ExitStack() as stack:
        try:
            transport = _start(plan, running, stack, outcome)
            view = _Progress(plan, list(running.values()))
            if plan.live and not plan.quiet:
                view.table = DeviceTable(f"{plan.board}, {plan.source.name} at {plan.speed:g} x")
                stack.enter_context(Live(view.table, refresh_per_second=4))
            _supervise(plan, transport, running, view, outcome)
        except StopSignal as e:
            outcome.stopped = e
            ended = {*outcome.failures, *(patrol.name for patrol in outcome.patrols)}
            outcome.unfinished = {
                name: running[name].progress() if name in running else "not started"
                for name in names(plan.device, plan.count)
                if name not in ended
            }
    outcome.duration_s = round(time.monotonic() - start_s, 1)
    return outcome


def _start(plan: Plan, running: dict[str, Patrol], stack: contextlib.ExitStack, outcome: Outcome) -> MqttTransport:
    """Start broker, connection and boards; a stop signal takes effect between two of them."""
    with stop_deferred():
        outcome.broker, url, address = _broker(plan.broker, stack)
    transport = MqttTransport(url)
    stack.callback(transport.close)
    for i, name in enumerate(names(plan.device, plan.count)):
        out = plan.out if plan.count == 1 else plan.out / name
        with stop_deferred(), _recording_failure(plan, name, outcome):
            running[name] = Patrol(plan, name, plan.seed + i, out, address)
            stack.callback(running[name].close)
    return transport


@contextlib.contextmanager
def _recording_failure(plan: Plan, name: str, outcome: Outcome) -> Iterator[None]:
    """Record the error of one board among several."""
    try:
        yield
    except UserError as e:
        if plan.count == 1:
            raise
        outcome.failures[name] = e


def _supervise(
    plan: Plan, transport: MqttTransport, running: dict[str, Patrol], view: "_Progress", outcome: Outcome
) -> None:
    """Distribute frames and supervise all boards until each has completed or failed."""
    for record in transport.records():
        if record is not None and record.device in running:
            view.show(record, running[record.device].take(record))
        for name, patrol in list(running.items()):
            with _recording_failure(plan, name, outcome):
                patrol.step()
            if patrol.summary or name in outcome.failures:
                running.pop(name).close()
            if patrol.summary:
                outcome.patrols.append(patrol)
        view.print_progress()
        if not running:
            return


class _Progress:
    """Progress display: a table on a terminal, otherwise one line per device every few seconds."""

    def __init__(self, plan: Plan, patrols: list[Patrol]) -> None:
        self.table: DeviceTable | None = None
        self._quiet = plan.quiet
        self._patrols = patrols
        self._printed_s = time.monotonic()

    def show(self, record: Record, rows: list[Row]) -> None:
        """Show a frame."""
        if self.table is not None:
            total = DecoderStats()
            for stats in (patrol.decoder.stats for patrol in self._patrols):
                total.frames += stats.frames
                total.bytes += stats.bytes
                total.duplicates += stats.duplicates
                total.rejected.update(stats.rejected)
            self.table.update(record, rows, total)

    def print_progress(self) -> None:
        """Print progress if it is due."""
        if self.table is None and not self._quiet and time.monotonic() - self._printed_s >= _PROGRESS_S:
            self._printed_s = time.monotonic()
            for patrol in self._patrols:
                if not patrol.summary:
                    notes.note(f"{patrol.name}: {patrol.progress()}")


def _broker(setting: str, stack: contextlib.ExitStack) -> tuple[str, str, tuple[str, int]]:
    """Return name, URL and device-side address of the broker; start one for "auto"."""
    if setting == "auto":
        broker = Broker()
        stack.callback(broker.stop)
        return broker.name, broker.url, ("127.0.0.1", broker.port)
    if not setting.startswith("mqtt://"):
        raise UserError(f"--broker {setting}: write auto or mqtt://host:port")
    parts = urlsplit(setting)
    try:
        port = parts.port or 1883
    except ValueError as e:
        raise UserError(f"--broker {setting}: {e}; write mqtt://host:1883") from None
    return setting, setting, (parts.hostname or "127.0.0.1", port)
