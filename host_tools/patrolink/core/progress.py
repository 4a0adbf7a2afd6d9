"""Progress of long jobs on standard error: a bar on a terminal after 2 s, elsewhere one line every 10 s.

Nothing is shown with -q. A job only stores numbers; a thread shows them, so that a job may wait or count millions.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from types import TracebackType

from patrolink.core import notes
from patrolink.core.text import printable

_BAR_AFTER_S = 2.0
_LINE_EVERY_S = 10.0
_REFRESH_S = 0.1


class Progress:
    """The progress of one job, shown while the context is open.

    Args:
        label: What is done, in a few words.
        total: Amount of work, or None if it is not known.
        unit: What the amount counts, in the plural.
        shown: Whether it is shown; False if standard output already shows on a terminal what is done.

    Attributes:
        label: May be changed when another part of the job begins.
        done: Amount that is done.
        total: May be changed when it becomes known.
    """

    def __init__(self, label: str, total: float | None = None, unit: str = "", shown: bool = True) -> None:
        self.label, self.done, self.total = label, 0.0, total
        self._unit, self._shown = unit, shown
        self._start_s = 0.0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Progress:
        """Start to show the progress."""
        self._start_s = time.monotonic()
        if self._shown and not notes.is_quiet() and sys.stderr is not None:
            self._thread = threading.Thread(target=self._show, name="progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove the bar."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def advance(self, amount: float) -> None:
        """Add to the amount that is done."""
        self.done += amount

    def update(self, done: float, total: float | None) -> None:
        """Set the amounts that are done and to do."""
        self.done, self.total = done, total

    def line(self) -> str:
        """Return the progress as text."""
        parts = [f"{self.label}:"]
        if self.total:
            parts.append(f"{100 * min(1.0, self.done / self.total):.0f} %,")
        if self._unit:
            of_total = f" of {self.total:.15g}" if self.total else ""
            parts.append(f"{self.done:.15g}{of_total} {self._unit},")
        return printable(" ".join([*parts, f"{time.monotonic() - self._start_s:.0f} s"]))

    def _show(self) -> None:
        # A dumb terminal cannot move its cursor.
        if sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
            if not self._ended.wait(_BAR_AFTER_S):
                self._show_bar()
            return
        while not self._ended.wait(_LINE_EVERY_S):
            notes.note(self.line())

    def _show_bar(self) -> None:
        from rich.console import Console  # takes as long to import as most commands run
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar
        from rich.table import Column

        label = TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold"))
        # Data on standard output must not be redirected to the console of the bar.
        with Bar(
            label,
            BarColumn(bar_width=None, table_column=Column(min_width=8)),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            auto_refresh=False,
        ) as bar:
            task = bar.add_task(printable(self.label), total=self.total)
            while not self._ended.wait(_REFRESH_S):
                # A total of 0 is not known yet.
                bar.update(task, description=printable(self.label), completed=self.done, total=self.total or None)
                bar.refresh()
